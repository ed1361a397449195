"""The images of its own class that are nearest to each image, by the angle between embeddings.

Exact, block by block, for within a class the pairs are few: 100,000 images of ten classes are 10^9 of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.progress import OnProgress

NEAREST = 10
# Of one block: 16 MB of similarities, and twice that of places.
PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Neighbours:
    """Of each image its `NEAREST` of the same class, nearest first: places int64 [n, k], and `distance` float32
    [n, k], 1 - cosine, 0 ... 2. Where there are fewer, -1 and NaN."""

    places: NDArray[np.int64]
    distance: NDArray[np.float32]


def multiply_adds(targets: NDArray[np.int64], features: int) -> float:
    """How many a search among images of these classes takes."""
    counts = np.bincount(targets).astype(np.float64)
    return float((counts**2).sum() * features)


def find_neighbours(
    embedding: NDArray[np.float32], targets: NDArray[np.int64], on_progress: OnProgress | None = None
) -> Neighbours:
    """`embedding` is float32 [n, D], `targets` int64 [n]."""
    places = np.full((len(targets), NEAREST), -1, np.int64)
    distance = np.full((len(targets), NEAREST), np.nan, np.float32)
    done = 0
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        unit: NDArray[np.float32] = _unit(embedding[members])
        count = min(NEAREST, len(members) - 1)
        rows = max(1, PAIRS_AT_ONCE // len(members))
        for start in range(0, len(members) if count else 0, rows):
            block = np.arange(start, min(start + rows, len(members)))
            similarity = unit[block] @ unit.T
            similarity[np.arange(len(block)), block] = -np.inf
            nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
            of_nearest = np.take_along_axis(similarity, nearest, axis=1)
            order = np.argsort(-of_nearest, axis=1, kind="stable")
            places[members[block], :count] = members[np.take_along_axis(nearest, order, axis=1)]
            distance[members[block], :count] = 1 - np.take_along_axis(of_nearest, order, axis=1)
            if on_progress is not None:
                on_progress(done + int(block[-1]) + 1, len(targets))
        done += len(members)
    return Neighbours(places, distance.clip(min=0))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-30))
    return found
