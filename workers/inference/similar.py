"""The training images that a loaded version finds most similar to images."""

import math

import numpy as np
from numpy.typing import NDArray

from models.neighbours.neighbours import Neighbours, open_neighbours
from models.spec import EMBEDDING
from workers.contract.messages import SimilarImage
from workers.inference.loaded import LoadedModel


def similar_images(
    held: LoadedModel, embeddings: NDArray[np.float32], count: int
) -> list[tuple[SimilarImage, ...]]:
    """For each of `[n, ...]` the nearest `count`, nearest first. Raises what `open_neighbours` raises."""
    found = _neighbours_of(held).nearest(embeddings, count)
    return [tuple(SimilarImage(near.sha256, near.label, near.distance) for near in each) for each in found]


def _neighbours_of(held: LoadedModel) -> Neighbours:
    """They stay open as long as the model is loaded."""
    if held.neighbours is None:
        with held.opening:
            if held.neighbours is None:
                numbers = math.prod(held.predictor.manifest.outputs.get(EMBEDDING, [0]))
                held.neighbours = open_neighbours(held.predictor.folder, numbers)
    return held.neighbours
