"""What is answered for each image of a batch, of what the network gives for it."""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifact import Manifest
from models.conformal import ConformalScores
from models.prediction_sets import class_scores, prediction_sets
from models.spec import EMBEDDING, LOGITS, PROBABILITIES
from models.unknown.detector import Detector
from workers.contract.messages import ClassScore, ImageOutcome, UnknownScore
from workers.inference.loaded import LoadedModel
from workers.inference.similar import similar_images


@dataclass(frozen=True)
class Asked:
    """What is wanted of each image: so many classes, and beside them what a `ClassifyBatch` has under each name.

    What is no `traffic`, such as a second look at an image, has no part in what is known of drift.
    """

    top_k: int
    outputs: Sequence[str] = ()
    coverage: float | None = None
    similar: int = 0
    is_traffic: bool = True

    def needed(self, held: LoadedModel) -> tuple[str, ...]:
        """The outputs of the network that the answers are made of."""
        names = [PROBABILITIES, *self.outputs]
        if held.detector:
            names.append(held.detector.output)
        if self.coverage is not None:
            names.append(LOGITS)
        if self.similar:
            names.append(EMBEDDING)
        if self.is_traffic and held.sketcher:
            names += held.sketcher.outputs
        return tuple(dict.fromkeys(names))


def answers(held: LoadedModel, images: NDArray[np.uint8], asked: Asked) -> list[ImageOutcome]:
    """For prepared images, uint8 `[n, height, width, 3]`.

    The best classes of each, best first, equal probabilities in the order of the classes. Raises what
    `Predictor.run` and `similar_images` raise, and CoverageUnavailable.
    """
    predictor = held.predictor
    labels = predictor.labels
    names = asked.needed(held)
    found = dict(zip(names, predictor.run(images, names), strict=True))
    if asked.is_traffic and held.sketcher:
        held.sketcher.add(found)
    unknown = _unknown(held.detector, found[held.detector.output]) if held.detector else None
    best = np.argsort(-found[PROBABILITIES], axis=1, kind="stable")[:, : asked.top_k]
    sets = None if asked.coverage is None else _sets(predictor.manifest, found[LOGITS], asked.coverage)
    similar = similar_images(held, found[EMBEDDING], asked.similar) if asked.similar else None
    return [
        ImageOutcome(
            tuple(ClassScore(i, labels[i], float(row[i])) for i in order),
            outputs={name: as_base64(found[name][place]) for name in asked.outputs} or None,
            unknown=unknown[place] if unknown else None,
            prediction_set=tuple(ClassScore(i, labels[i], float(row[i])) for i in sets[place]) if sets else None,
            similar=similar[place] if similar else None,
        )
        for place, (row, order) in enumerate(zip(found[PROBABILITIES], best.tolist(), strict=True))
    ]


def _unknown(detector: Detector, read: NDArray[np.float32]) -> list[UnknownScore]:
    threshold = detector.threshold
    return [UnknownScore(score, threshold, is_unknown) for score, is_unknown in detector.judge(read)]


def _sets(manifest: Manifest, logits: NDArray[np.float32], coverage: float) -> list[list[int]]:
    """The classes of each image's set, best first. Raises CoverageUnavailable."""
    threshold = ConformalScores.from_findings(manifest.findings).threshold(coverage)
    scores = class_scores(logits)
    sizes = prediction_sets(scores, threshold).sum(axis=1)
    order = np.argsort(scores, axis=1, kind="stable")[:, : sizes.max()]
    return [row[:size] for row, size in zip(order.tolist(), sizes.tolist(), strict=True)]


def as_base64(values: NDArray[np.float32]) -> str:
    return binascii.b2a_base64(values.astype("<f4", copy=False).tobytes(), newline=False).decode()
