"""What is answered for each image of a batch, of what the network gives for it."""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.spec import EMBEDDING, PROBABILITIES
from workers.contract.messages import ClassScore, ImageOutcome
from workers.inference.loaded import LoadedModel
from workers.inference.similar import similar_images


@dataclass(frozen=True)
class Asked:
    """What is wanted of each image: so many classes, those `outputs` of the network, `similar` training images."""

    top_k: int
    outputs: Sequence[str] = ()
    similar: int = 0


def answers(held: LoadedModel, images: NDArray[np.uint8], asked: Asked) -> list[ImageOutcome]:
    """For prepared images, uint8 `[n, height, width, 3]`; raises what `Predictor.run` and `similar_images` raise.

    The best classes of each, best first, equal probabilities in the order of the classes.
    """
    predictor = held.predictor
    labels = predictor.labels
    names = tuple(dict.fromkeys((PROBABILITIES, *asked.outputs, *((EMBEDDING,) if asked.similar else ()))))
    found = dict(zip(names, predictor.run(images, names), strict=True))
    similar = similar_images(held, found[EMBEDDING], asked.similar) if asked.similar else [None] * len(images)
    best = np.argsort(-found[PROBABILITIES], axis=1, kind="stable")[:, : asked.top_k]
    return [
        ImageOutcome(
            tuple(ClassScore(i, labels[i], float(row[i])) for i in order),
            outputs={name: as_base64(found[name][place]) for name in asked.outputs} or None,
            similar=similar[place],
        )
        for place, (row, order) in enumerate(zip(found[PROBABILITIES], best.tolist(), strict=True))
    ]


def as_base64(values: NDArray[np.float32]) -> str:
    return binascii.b2a_base64(values.astype("<f4", copy=False).tobytes(), newline=False).decode()
