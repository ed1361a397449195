"""Images of one class that show the same picture: saved anew, made smaller, or cut at the edges.

Two looks, as `models.dataset.similarity` has them across splits: by the embedding, which finds candidates among
all pairs, and by grey values, which a network that tells nothing but classes apart does not see.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.diagnosis.images import PixelsOf
from models.diagnosis.neighbours import Neighbours

# Of the median distance of an image of the class to its nearest one, and of 1 - cosine: see docs/decisions/0041.
MOST_OF_USUAL = 0.4
MOST_DISTANCE = 0.1
LEAST_CORRELATION = 0.75
GREY_SIDE = 16
# Candidates whose pixels are looked at, the nearest pairs first.
MOST_PAIRS = 20_000


@dataclass(frozen=True)
class Group:
    """Places of images that show the same, at least two; `similarity` is the least cosine of a pair of them."""

    places: tuple[int, ...]
    similarity: float


def find_duplicates(neighbours: Neighbours, targets: NDArray[np.int64], pixels: PixelsOf) -> list[Group]:
    """The most alike first."""
    pairs = list(_alike(neighbours, targets, pixels))
    parents = list(range(len(targets)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for one, other, _ in pairs:
        parents[root(one)] = root(other)
    members: dict[int, set[int]] = {}
    farthest: dict[int, float] = {}
    for one, other, distance in pairs:
        members.setdefault(root(one), set()).update((one, other))
        farthest[root(one)] = max(distance, farthest.get(root(one), 0.0))
    groups = [Group(tuple(sorted(found)), 1 - farthest[key]) for key, found in members.items()]
    return sorted(groups, key=lambda group: (-group.similarity, group.places))


def _alike(
    neighbours: Neighbours, targets: NDArray[np.int64], pixels: PixelsOf
) -> Iterator[tuple[int, int, float]]:
    """Pairs with their distances."""
    grey: dict[int, NDArray[np.float32]] = {}

    def grey_of(place: int) -> NDArray[np.float32]:
        if place not in grey:
            grey[place] = _grey(pixels(place))
        return grey[place]

    for one, other, distance in _candidates(neighbours, targets):
        if _correlation(grey_of(one), grey_of(other)) >= LEAST_CORRELATION:
            yield one, other, distance


def _candidates(neighbours: Neighbours, targets: NDArray[np.int64]) -> list[tuple[int, int, float]]:
    """Pairs that are much nearer than an image and its nearest one usually are; each once, nearest first."""
    nearest = neighbours.distance[:, 0]
    most = np.full(len(targets), -1.0)
    for target in np.unique(targets):
        members = targets == target
        if np.isfinite(nearest[members]).any():
            most[members] = min(MOST_DISTANCE, MOST_OF_USUAL * float(np.nanmedian(nearest[members])))
    ones, columns = np.nonzero(neighbours.distance <= most[:, None])
    found = {
        (min(one, other), max(one, other)): distance
        for one, other, distance in zip(
            ones.tolist(),
            neighbours.places[ones, columns].tolist(),
            neighbours.distance[ones, columns].tolist(),
            strict=True,
        )
    }
    ordered = sorted(found.items(), key=lambda pair: (pair[1], pair[0]))
    return [(one, other, distance) for (one, other), distance in ordered[:MOST_PAIRS]]


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [values], of mean 0 and length 1; one of a single colour is zeros, like none."""
    small = Image.fromarray(pixels).convert("L").resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    found: NDArray[np.float32] = values / length if length else values
    return found


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The higher one of the pictures as they are, and one of them mirrored."""
    mirrored = other.reshape(GREY_SIDE, GREY_SIDE)[:, ::-1].ravel()
    return float(max(one @ other, one @ mirrored))
