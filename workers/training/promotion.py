"""Whether `production` moves to a new version: never, always, or if it is better on the same images."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from models.artifact import checksums
from models.errors import ModelError
from models.predictor import Predictor
from models.training.metrics import Metrics, cross_entropy
from models.training.pixels import decode
from models.training.split import Split
from storage.cache import FolderCache
from storage.errors import NotFound
from storage.reference import PRODUCTION
from storage.registry import ModelRegistry, Version
from system.cores import usable_cores

BATCH = 64
log = structlog.get_logger()


@dataclass(frozen=True)
class Score:
    """On the validation images of a fine-tune; `loss` is infinite where the model does not know a label."""

    accuracy: float
    loss: float

    def beats(self, other: "Score") -> bool:
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class Promotion:
    """`previous` is the version that `production` pointed at before, None where there was none."""

    promoted: bool
    reason: str
    previous: int | None = None
    previous_accuracy: float | None = None

    def overtaken(self) -> "Promotion":
        """What is left of it where another version went into production after the comparison."""
        reason = f"{self.reason} But production was moved meanwhile, to a version that it was not compared with."
        return dataclasses.replace(self, promoted=False, reason=reason)


def decide_promotion(
    rule: str,
    model: str,
    new: Metrics,
    split: Split,
    *,
    registry: ModelRegistry,
    folder_cache: FolderCache,
    cache_dir: Path,
    max_pixels: int,
    check: Callable[[], None],
) -> Promotion:
    """Whether a new version of the model, measured as `new` on the validation images, becomes its `production`.

    `rule` is `never`, `always` or `if_better`, which measures the present production version on the same images.
    `check` is called between batches and may raise.
    """
    if rule == "never":
        return Promotion(False, "Asked for never.")
    try:
        current = registry.resolve(f"{model}@{PRODUCTION}")
    except NotFound:
        current = None
    if rule == "always":
        return Promotion(True, "Asked for always.", current.number if current else None)
    if current is None:
        return Promotion(True, "There was no production version.")
    try:
        old = score_of(
            current, split, folder_cache=folder_cache, cache_dir=cache_dir, max_pixels=max_pixels, check=check
        )
    except (ModelError, NotFound) as error:
        # The new version is worth more than the comparison: it stays, and somebody can look.
        log.warning("promotion.not_compared", model=model, version=current.number, reason=str(error))
        return Promotion(False, f"Version {current.number} in production could not be measured.", current.number)
    images = f"on the {len(split.validation)} validation images"
    compared = f"{new.accuracy:.4f} against {old.accuracy:.4f} of version {current.number} {images}"
    if Score(new.accuracy, new.loss).beats(old):
        return Promotion(True, f"Better: {compared}.", current.number, old.accuracy)
    return Promotion(False, f"Not better: {compared}.", current.number, old.accuracy)


def score_of(
    version: Version,
    split: Split,
    *,
    folder_cache: FolderCache,
    cache_dir: Path,
    max_pixels: int,
    check: Callable[[], None],
) -> Score:
    """How a served version does on the validation images, prepared as that version asks.

    Its answers count by label, for its classes may be others in another order.
    """
    predictor = Predictor(
        folder_cache.keep(version.artifact, checksums), device="cpu", intra_threads=usable_cores()
    )
    try:
        pixels = decode(
            split.validation, predictor.preprocessing, cache_dir, threads=usable_cores(), max_pixels=max_pixels
        )
        parts = []
        for start in range(0, len(pixels), BATCH):
            parts.append(predictor.predict(pixels.array[start : start + BATCH].copy()))
            check()
        probabilities = np.concatenate([part.probabilities for part in parts])
    finally:
        predictor.close()
    index_of = {label: i for i, label in enumerate(predictor.labels)}
    truth = [split.labels[target] for target in split.validation.targets]
    correct = [predictor.labels[best] == label for best, label in zip(probabilities.argmax(1), truth, strict=True)]
    if not set(truth) <= set(index_of):
        return Score(float(np.mean(correct)), math.inf)
    targets = np.array([index_of[label] for label in truth], dtype=np.int64)
    return Score(float(np.mean(correct)), cross_entropy(np.log(probabilities.clip(min=1e-30)), targets))
