"""A map drawn over the picture that it explains, as a PNG file. What the network did not see is dimmed."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.Image import Resampling

from models.spec import Preprocessing

# Long enough for a screen, and for a small picture long enough to see its cells.
LONGEST_SIDE, SHORTEST_LONG_SIDE = 1024, 256
# Matplotlib's perceptually uniform `inferno` at each eighth, from 0 to 1 (van der Walt and Smith 2015, CC0).
INFERNO = np.array(
    [
        (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
        (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
    ],
    np.float32,
)  # fmt: skip
# How much of the colour there is at 0 and at 1, and how bright what was not seen stays.
FAINTEST, STRONGEST, UNSEEN = 0.25, 0.75, 0.35
# A photograph's file is a tenth larger than with 6, in a third of the time.
COMPRESSION = 3

Box = tuple[float, float, float, float]
Pixels = NDArray[np.uint8]


def canvas_of(size: tuple[int, int]) -> Preprocessing:
    """How a picture of that width and height is to be prepared to be drawn on: all of it, in its own aspect."""
    longest = max(size)
    scale = min(LONGEST_SIDE, max(SHORTEST_LONG_SIDE, longest)) / longest
    width, height = (max(1, round(side * scale)) for side in size)
    return Preprocessing(height=height, width=width, resize=max(width, height), fit="squash")


def overlay(picture: Pixels, size: tuple[int, int], values: NDArray[np.float32], region: Box, box: Box) -> bytes:
    """PNG of a picture, uint8 `[height, width, 3]`, that was prepared by `canvas_of(size)`.

    `values` is the map, `[h, w]` from 0 to 1; `region`, which it covers, and `box`, which is framed, are in pixels
    of the picture's own `size`.
    """
    height, width = picture.shape[:2]
    across, down = width / size[0], height / size[1]
    left, top, right, bottom = _whole(region, across, down)
    drawn = picture.astype(np.float32) * UNSEEN
    seen = picture[top:bottom, left:right].astype(np.float32)
    spread = Image.fromarray(values).resize((right - left, bottom - top), Resampling.BILINEAR)
    strength = np.clip(np.asarray(spread), 0, 1)[..., None]
    share = FAINTEST + (STRONGEST - FAINTEST) * strength
    # Grey below, so that colour means the map and nothing else.
    grey = seen.mean(axis=2, keepdims=True)
    drawn[top:bottom, left:right] = (1 - share) * grey + share * _coloured(strength[..., 0])
    image = Image.fromarray(np.rint(drawn).astype(np.uint8))
    frame = _whole(box, across, down)
    ImageDraw.Draw(image).rectangle((frame[0], frame[1], frame[2] - 1, frame[3] - 1), outline="white", width=2)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def _coloured(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    at = np.linspace(0, 1, len(INFERNO))
    channels = [np.interp(strength, at, INFERNO[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _whole(box: Box, across: float, down: float) -> tuple[int, int, int, int]:
    """In pixels of the drawing, one at least."""
    left, top = int(box[0] * across), int(box[1] * down)
    return left, top, max(left + 1, round(box[2] * across)), max(top + 1, round(box[3] * down))
