"""The patches of images that excite filters most, cut out by their windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.filters.excitation import Excitation
from models.filters.tiles import in_rows
from models.filters.window import Box, shown_part

PER_FILTER, ACROSS = 9, 3
MOST_FILTERS, FILTERS_ACROSS = 8, 4
SIDE, GAP, WIDE_GAP = 40, 1, 8


@dataclass(frozen=True)
class Patch:
    """Where a filter answers an image most: `image` is its row, `row` and `column` the place in the map.

    `window` is all that the value depends on, `shown` what is cut out of it.
    """

    image: int
    row: int
    column: int
    activation: float
    window: Box
    shown: Box


@dataclass(frozen=True)
class ExcitedFilter:
    """`patches` come from different images, the one that excites it most first."""

    channel: int
    patches: tuple[Patch, ...]


def most_excited(excitation: Excitation, height: int, width: int) -> list[ExcitedFilter]:
    """At most eight filters of a layer, of images of that size, each with its nine patches.

    They are those whose strongest answers stand out most from their others: by the mean of the nine less the
    mean of all, in standard deviations. Filters that answer every image alike are left out.
    """
    values, layer = excitation.values, excitation.layer
    order = np.argsort(-values, axis=0, kind="stable")[:PER_FILTER]
    strongest = np.take_along_axis(values, order, axis=0)
    spread = values.std(axis=0)
    alive = np.isfinite(values).all(axis=0) & (spread > 1e-6 * np.abs(values).max(axis=0).clip(1e-30))
    with np.errstate(divide="ignore", invalid="ignore"):
        standing_out = np.where(alive, (strongest.mean(axis=0) - values.mean(axis=0)) / spread, -np.inf)
    chosen = np.argsort(-standing_out, kind="stable")[: min(MOST_FILTERS, int(alive.sum()))]

    def patch(image: int, channel: int) -> Patch:
        row, column = divmod(int(excitation.places[image, channel]), layer.map[1])
        window = layer.windows.at(row, column)
        shown = shown_part(window, height, width)
        return Patch(image, row, column, float(values[image, channel]), window, shown)

    return [
        ExcitedFilter(int(channel), tuple(patch(int(image), int(channel)) for image in order[:, channel]))
        for channel in chosen
    ]


def patches_picture(filters: Sequence[ExcitedFilter], images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A square of three by three patches for each filter, uint8 RGBA; transparent where an image ends.

    `images` are prepared, uint8 `[n, height, width, 3]`.
    """
    squares = []
    for found in filters:
        tiles = np.zeros((PER_FILTER, SIDE, SIDE, 4), np.uint8)
        for tile, patch in zip(tiles, found.patches, strict=False):
            tile[:] = _tile(images[patch.image], patch.shown)
        squares.append(in_rows(tiles, columns=ACROSS, gap=GAP))
    return in_rows(np.stack(squares), columns=min(FILTERS_ACROSS, len(squares)), gap=WIDE_GAP)


def cut_out(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The pixels of a box, uint8 `[height, width, 4]`; outside the image they are transparent."""
    found = np.zeros((box.bottom - box.top, box.right - box.left, 4), np.uint8)
    height, width = image.shape[:2]
    inside = Box(max(box.top, 0), max(box.left, 0), min(box.bottom, height), min(box.right, width))
    if inside.top < inside.bottom and inside.left < inside.right:
        part = found[
            inside.top - box.top : inside.bottom - box.top, inside.left - box.left : inside.right - box.left
        ]
        part[..., :3] = image[inside.top : inside.bottom, inside.left : inside.right]
        part[..., 3] = 255
    return found


def _tile(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """As large as every tile: small patches with their pixels to be seen, large ones smoothly."""
    patch = Image.fromarray(cut_out(image, box))
    scale = SIDE / max(patch.size)
    size = (max(1, round(patch.width * scale)), max(1, round(patch.height * scale)))
    resized = patch.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
    tile = np.zeros((SIDE, SIDE, 4), np.uint8)
    top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = np.asarray(resized)
    return tile
