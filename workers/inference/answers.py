"""What is answered for each image of a batch, of what the network gives for it."""

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.spec import PROBABILITIES
from models.unknown.detector import Detector
from workers.contract.messages import ClassScore, ImageOutcome, UnknownScore
from workers.inference.loaded import LoadedModel


@dataclass(frozen=True)
class Asked:
    """What is wanted of each image: so many classes, and those `outputs` of the network."""

    top_k: int
    outputs: Sequence[str] = ()


def answers(held: LoadedModel, images: NDArray[np.uint8], asked: Asked) -> list[ImageOutcome]:
    """For prepared images, uint8 `[n, height, width, 3]`; raises what `Predictor.run` raises.

    The best classes of each, best first, equal probabilities in the order of the classes.
    """
    predictor = held.predictor
    labels = predictor.labels
    detector = held.detector
    names = tuple(dict.fromkeys((PROBABILITIES, *asked.outputs, *((detector.output,) if detector else ()))))
    found = dict(zip(names, predictor.run(images, names), strict=True))
    unknown = _unknown(detector, found)
    best = np.argsort(-found[PROBABILITIES], axis=1, kind="stable")[:, : asked.top_k]
    return [
        ImageOutcome(
            tuple(ClassScore(i, labels[i], float(row[i])) for i in order),
            outputs={name: as_base64(found[name][place]) for name in asked.outputs} or None,
            unknown=unknown[place] if unknown else None,
        )
        for place, (row, order) in enumerate(zip(found[PROBABILITIES], best.tolist(), strict=True))
    ]


def _unknown(detector: Detector | None, found: Mapping[str, NDArray[np.float32]]) -> list[UnknownScore] | None:
    if detector is None:
        return None
    threshold = detector.threshold
    judged = detector.judge(found[detector.output])
    return [UnknownScore(score, threshold, is_unknown) for score, is_unknown in judged]


def as_base64(values: NDArray[np.float32]) -> str:
    return binascii.b2a_base64(values.astype("<f4", copy=False).tobytes(), newline=False).decode()
