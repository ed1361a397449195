"""Which images of a dataset calibrate the variants of a version, and which judge them. Decodes nothing."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.artifact import Manifest
from models.dataset.folder import DatasetFolder
from models.training.errors import UntrainableDataset
from models.training.seeds import derive_seed
from models.training.split import ImageList, Split, split_again, split_dataset
from models.validation import shortened
from models.variants.build import MOST_CALIBRATION_IMAGES
from workers.jobs.failure import InvalidRequest

# So many bound the time on a large dataset: with 2,000 the accuracy's interval is about a point wide.
MOST_CALIBRATING, MOST_JUDGING = MOST_CALIBRATION_IMAGES, 2000
# Where there is no split, as many of the images calibrate.
CALIBRATING_SHARE = 0.2
MOST_LABELS_TOLD = 20


@dataclass(frozen=True)
class VariantImages:
    """Both lists have targets by the version's labels. `left_out` images have a label that it does not have."""

    calibrating: ImageList
    judging: ImageList
    left_out: int
    left_out_labels: tuple[str, ...]


@dataclass(frozen=True)
class _Labelled:
    path: Path
    label: str
    name: str
    sha256: str


def choose_images(manifest: Manifest, dataset: DatasetFolder) -> VariantImages:
    """Training images calibrate, the others judge, spread over the classes; the same ones each time.

    Where the version learnt from this very dataset, what trained it never judges it. Raises InvalidRequest where
    no label is one of the version's, or where nobody knows any more what trained it.
    """
    learning, judging = _sides(manifest, dataset)
    counts = Counter(manifest.labels)
    # A label that two classes share says nothing about which of them is meant.
    index_of = {label: i for i, label in enumerate(manifest.labels) if counts[label] == 1}
    strangers = [image.label for image in (*learning, *judging) if image.label not in index_of]
    learning, judging = ([i for i in side if i.label in index_of] for side in (learning, judging))
    if not learning and not judging:
        raise InvalidRequest(
            f"dataset: none of its labels ({_some(dataset.labels)}) is one of the version's "
            f"({_some(manifest.labels)})"
        )
    return VariantImages(
        _listed(_spread(learning, "calibrating")[:MOST_CALIBRATING], index_of),
        _listed(_spread(judging, "judging")[:MOST_JUDGING], index_of),
        len(strangers),
        tuple(sorted(set(strangers))[:MOST_LABELS_TOLD]),
    )


def _sides(manifest: Manifest, dataset: DatasetFolder) -> tuple[list[_Labelled], list[_Labelled]]:
    """The images that may calibrate, and those that may judge."""
    learnt = manifest.dataset or {}
    if learnt.get("content_hash") == dataset.content_hash:
        return _sides_of(_split_of(learnt, dataset))
    if any(sample.split == "val" for sample in dataset.samples):
        return _sides_of(split_dataset(dataset, fraction=CALIBRATING_SHARE, seed=0))
    images = [
        (_Labelled(dataset.path_of(sample), sample.label, sample.name, sample.sha256), sample.split == "test")
        for sample in dataset.samples
    ]
    drawn = _spread([image for image, is_test in images if not is_test], "calibrating")
    calibrating = drawn[: min(MOST_CALIBRATING, round(len(drawn) * CALIBRATING_SHARE))]
    contents = {image.sha256 for image in calibrating}
    return calibrating, [image for image, _ in images if image.sha256 not in contents]


def _split_of(learnt: dict[str, object], dataset: DatasetFolder) -> Split:
    described = learnt.get("split")
    try:
        split = split_again(dataset, str(described.get("origin") if isinstance(described, dict) else None))
    except UntrainableDataset as error:
        raise InvalidRequest(f"dataset: the version learnt from it, and {error}; give another one") from error
    if learnt.get("validation_hash") not in (None, split.validation.content_hash):
        raise InvalidRequest(
            "dataset: the version learnt from it, by a split that this release would not make again, so images "
            "that trained it might judge; give another one"
        )
    return split


def _sides_of(split: Split) -> tuple[list[_Labelled], list[_Labelled]]:
    def images(*parts: ImageList) -> list[_Labelled]:
        return [
            _Labelled(path, split.labels[target], name, sha256)
            for part in parts
            for path, target, name, sha256 in zip(part.paths, part.targets, part.names, part.sha256, strict=True)
        ]

    return images(split.train), images(split.validation, split.test)


def _spread(images: Iterable[_Labelled], purpose: str) -> list[_Labelled]:
    """In an order whose beginning, however long, has about as many images of each class; by content alone."""
    drawn = sorted(images, key=lambda image: (derive_seed(purpose, image.sha256), image.name))
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, _Labelled]] = []
    for image in drawn:
        ranked.append((seen[image.label], len(ranked), image))
        seen[image.label] += 1
    return [image for _, _, image in sorted(ranked, key=lambda entry: entry[:2])]


def _listed(images: list[_Labelled], index_of: dict[str, int]) -> ImageList:
    ordered = sorted(images, key=lambda image: (index_of[image.label], image.sha256, image.name))
    return ImageList(
        tuple(image.path for image in ordered),
        np.array([index_of[image.label] for image in ordered], dtype=np.int64),
        tuple(image.name for image in ordered),
        tuple(image.sha256 for image in ordered),
    )


def _some(labels: Iterable[str]) -> str:
    labels = list(labels)
    return ", ".join(map(shortened, labels[:3])) + (", ..." if len(labels) > 3 else "")
