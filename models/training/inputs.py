"""What a network is trained on and judged by: a split of a dataset, and its images prepared."""

from dataclasses import dataclass
from pathlib import Path

from models.preprocess import MAX_PIXELS
from models.spec import Preprocessing
from models.training.pixels import Pixels, canvas_of, decode
from models.training.progress import OnProgress
from models.training.split import ImageList, Split


@dataclass(frozen=True)
class TrainingInputs:
    """Training images as canvases, which crops are cut from; the others exactly as serving prepares them.

    Each uint8 [n, height, width, 3] in the order of its part of the split.
    """

    split: Split
    preprocessing: Preprocessing
    train: Pixels
    validation: Pixels
    test: Pixels


def prepare_inputs(
    split: Split,
    preprocessing: Preprocessing,
    cache: Path,
    *,
    threads: int = 2,
    max_pixels: int = MAX_PIXELS,
    on_progress: OnProgress | None = None,
) -> TrainingInputs:
    """Decodes what `cache` does not hold already, prepared in the same way. Raises what `decode` raises."""
    parts = (
        (split.train, canvas_of(preprocessing)),
        (split.validation, preprocessing),
        (split.test, preprocessing),
    )
    total = sum(len(images) for images, _ in parts)
    done = 0

    def decoded(images: ImageList, how: Preprocessing) -> Pixels:
        nonlocal done
        before = done
        done += len(images)
        return decode(
            images,
            how,
            cache,
            threads=threads,
            max_pixels=max_pixels,
            on_progress=lambda now, _: on_progress(before + now, total) if on_progress else None,
        )

    return TrainingInputs(split, preprocessing, *(decoded(images, how) for images, how in parts))
