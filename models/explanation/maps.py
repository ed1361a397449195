"""Maps of where in an image a class was seen: arrays in, arrays out. Knows no file and no queue."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.explanation.head import Floats, Head

Pixels = NDArray[np.uint8]

# The filter of Recipro-CAM, 3 by 3: a place is shown to the head together with its neighbours.
NEAR = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]).astype(np.float32)
# Occlusion tries so many places along each side, each with a patch of twice the distance between them.
PLACES = 8


@dataclass(frozen=True)
class Map:
    """`values`, float32 `[h, w]` from 0 to 1, upright as the network saw the image.

    0 stands for `low` and 1 for `high`, in `unit`; where all places are equal, all are 0.
    """

    values: Floats
    low: float
    high: float
    unit: str


def class_activation_map(head: Head, feature_map: Floats, index: int) -> Map:
    """What each place of the feature map, float32 `[C, h, w]`, adds to the class's logit.

    Zhou et al. 2016, arXiv 1512.04150; exact where the head is additive.
    """
    return _scaled(head.by_place(feature_map)[..., index], "logit")


def recipro_cam(head: Head, feature_map: Floats, index: int) -> Map:
    """The class's score where the head sees one place of the feature map and its neighbours only.

    Byun and Lee 2022, arXiv 2209.14074. One row of the head for each place.
    """
    _, height, width = head.sizes
    masks = np.zeros((head.places, 1, height + 2, width + 2), np.float32)
    for place, mask in enumerate(masks):
        row, column = divmod(place, width)
        mask[0, row : row + 3, column : column + 3] = NEAR
    scores = np.exp(log_softmax(head.logits(masks[:, :, 1:-1, 1:-1] * feature_map)))
    return _scaled(scores[:, index].reshape(height, width), "probability")


def occluded(image: Pixels, grey: tuple[int, int, int]) -> Pixels:
    """The image, uint8 `[height, width, 3]`, with one patch each: uint8 `[n, height, width, 3]`, row by row.

    At most 64 patches, each a quarter of both sides (Zeiler and Fergus 2014, arXiv 1311.2901).
    """
    rows, columns = places_of(image)
    tops, bottoms = _patches(image.shape[0], rows)
    lefts, rights = _patches(image.shape[1], columns)
    hidden = np.repeat(image[None], rows * columns, axis=0)
    for place, copy in enumerate(hidden):
        row, column = divmod(place, columns)
        copy[tops[row] : bottoms[row], lefts[column] : rights[column]] = grey
    return hidden


def occlusion(image: Pixels, whole: Floats, hidden: Floats, index: int) -> Map:
    """By how much the class's log-probability falls where a patch hides a place.

    `whole` are the image's logits, float32 `[classes]`, and `hidden` those of `occluded`, float32 `[n, classes]`.
    """
    fall = log_softmax(whole)[index] - log_softmax(hidden)[:, index]
    return _scaled(fall.reshape(places_of(image)), "log-probability")


def places_of(image: Pixels) -> tuple[int, int]:
    return min(PLACES, image.shape[0]), min(PLACES, image.shape[1])


def strongest_part(values: Floats) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in cells of a map, of what is connected with its maximum and at least half.

    Right and bottom are behind the last cell.
    """
    strong = values >= values.max() / 2
    peak = np.unravel_index(int(values.argmax()), values.shape)
    reached, waiting = {peak}, [peak]
    while waiting:
        row, column = waiting.pop()
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= near[0] < values.shape[0] and 0 <= near[1] < values.shape[1]
            if inside and strong[near] and near not in reached:
                reached.add(near)
                waiting.append(near)
    rows, columns = [int(row) for row, _ in reached], [int(column) for _, column in reached]
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    shifted = exact - exact.max(-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def _patches(size: int, places: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the patches along a side of so many pixels begin and end, each in the middle of its place."""
    middles = (np.arange(places) + 0.5) * size / places
    half = size / places
    return (
        np.clip(np.rint(middles - half), 0, size).astype(np.int64),
        np.clip(np.rint(middles + half), 0, size).astype(np.int64),
    )


def _scaled(found: NDArray[np.floating], unit: str) -> Map:
    low, high = float(found.min()), float(found.max())
    span = high - low
    values = (found - low) / span if span > 0 else np.zeros(found.shape)
    return Map(values.astype(np.float32), low, high, unit)


BY_FEATURE_MAP: dict[str, Callable[[Head, Floats, int], Map]] = {
    "cam": class_activation_map,
    "recipro-cam": recipro_cam,
}
