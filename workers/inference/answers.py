"""What is answered for each image of a batch, of what the network gives for it."""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifact import Manifest
from models.conformal import ConformalScores
from models.prediction_sets import class_scores, prediction_sets
from models.spec import LOGITS, PROBABILITIES
from workers.contract.messages import ClassScore, ImageOutcome
from workers.inference.loaded import LoadedModel


@dataclass(frozen=True)
class Asked:
    """What is wanted of each image: so many classes, those `outputs` of the network, the set of a `coverage`."""

    top_k: int
    outputs: Sequence[str] = ()
    coverage: float | None = None


def answers(held: LoadedModel, images: NDArray[np.uint8], asked: Asked) -> list[ImageOutcome]:
    """For prepared images, uint8 `[n, height, width, 3]`; raises what `Predictor.run` raises,
    and CoverageUnavailable.

    The best classes of each, best first, equal probabilities in the order of the classes.
    """
    predictor = held.predictor
    labels = predictor.labels
    of_sets = () if asked.coverage is None else (LOGITS,)
    sketched = held.sketcher.outputs if held.sketcher else ()
    names = tuple(dict.fromkeys((PROBABILITIES, *of_sets, *sketched, *asked.outputs)))
    found = dict(zip(names, predictor.run(images, names), strict=True))
    if held.sketcher:
        held.sketcher.add(found)
    best = np.argsort(-found[PROBABILITIES], axis=1, kind="stable")[:, : asked.top_k]
    sets = None if asked.coverage is None else _sets(predictor.manifest, found[LOGITS], asked.coverage)
    return [
        ImageOutcome(
            tuple(ClassScore(i, labels[i], float(row[i])) for i in order),
            outputs={name: as_base64(found[name][place]) for name in asked.outputs} or None,
            prediction_set=tuple(ClassScore(i, labels[i], float(row[i])) for i in sets[place]) if sets else None,
        )
        for place, (row, order) in enumerate(zip(found[PROBABILITIES], best.tolist(), strict=True))
    ]


def _sets(manifest: Manifest, logits: NDArray[np.float32], coverage: float) -> list[list[int]]:
    """The classes of each image's set, best first. Raises CoverageUnavailable."""
    threshold = ConformalScores.from_findings(manifest.findings).threshold(coverage)
    scores = class_scores(logits)
    sizes = prediction_sets(scores, threshold).sum(axis=1)
    order = np.argsort(scores, axis=1, kind="stable")[:, : sizes.max()]
    return [row[:size] for row, size in zip(order.tolist(), sizes.tolist(), strict=True)]


def as_base64(values: NDArray[np.float32]) -> str:
    return binascii.b2a_base64(values.astype("<f4", copy=False).tobytes(), newline=False).decode()
