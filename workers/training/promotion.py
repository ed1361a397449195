"""Whether `production` moves to a new version: never, always, or if it is better on the same images."""

import math
from dataclasses import dataclass

import numpy as np

from models.artifact import checksums
from models.predictor import Predictor
from models.training.data import ImageList, decode
from models.training.metrics import cross_entropy
from storage.errors import NotFound
from storage.reference import PRODUCTION
from storage.registry import Version
from system.cores import usable_cores
from workers.training.assembly import Work
from workers.training.context import Context

BATCH = 64


@dataclass(frozen=True)
class Score:
    """On the validation images of this fine-tune; `loss` is infinite where a label is unknown to the model."""

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


def promote_if(context: Context, rule: str, version: Version, work: Work) -> Promotion:
    """Moves `production` to the version where the rule says so."""
    if rule == "never":
        return Promotion(False, "Asked for never.")
    current = _production(context, version.model)
    previous = current.number if current else None
    if rule == "always":
        promotion = Promotion(True, "Asked for always.", previous)
    elif current is None:
        promotion = Promotion(True, "There was no production version.")
    elif current.number == version.number:
        promotion = Promotion(True, "It is in production already.", previous)
    else:
        promotion = _compare(context, current, work)
    if promotion.promoted:
        context.lease.check()
        context.registry.set_alias(version.model, PRODUCTION, version.number)
    return promotion


def _production(context: Context, model: str) -> Version | None:
    try:
        return context.registry.resolve(f"{model}@{PRODUCTION}")
    except NotFound:
        return None


def _compare(context: Context, current: Version, work: Work) -> Promotion:
    new = Score(work.figures.validation.accuracy, work.figures.validation.loss)
    old = score_of(context, current, work.division.labels, work.division.validation)
    images = f"on the {len(work.division.validation)} validation images"
    figures = f"{new.accuracy:.4f} against {old.accuracy:.4f} of version {current.number} {images}"
    if new.beats(old):
        return Promotion(True, f"Better: {figures}.", current.number, old.accuracy)
    return Promotion(False, f"Not better: {figures}.", current.number, old.accuracy)


def score_of(context: Context, version: Version, labels: tuple[str, ...], images: ImageList) -> Score:
    """How a served version does on these images, prepared as that version asks; its answers count by label."""
    folder = context.folders.keep(version.artifact, checksums)
    predictor = Predictor(folder, device="cpu", intra_threads=usable_cores())
    try:
        pixels = decode(
            images,
            predictor.preprocessing,
            context.settings.cache / "pixels",
            threads=usable_cores(),
            max_pixels=context.settings.max_pixels,
        )
        parts = []
        for start in range(0, len(pixels), BATCH):
            parts.append(predictor.predict(pixels.array[start : start + BATCH].copy()))
            context.lease.check()
        probabilities = np.concatenate([part.probabilities for part in parts])
    finally:
        predictor.close()
    known = {label: i for i, label in enumerate(predictor.labels)}
    truth = [labels[target] for target in images.targets]
    right = [predictor.labels[best] == label for best, label in zip(probabilities.argmax(1), truth, strict=True)]
    if not set(truth) <= set(known):
        return Score(float(np.mean(right)), math.inf)
    targets = np.array([known[label] for label in truth], dtype=np.int64)
    return Score(float(np.mean(right)), cross_entropy(np.log(probabilities.clip(min=1e-30)), targets))
