"""Small pictures side by side in one, with transparent gaps, and as the bytes of a file."""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def in_rows(tiles: NDArray[np.uint8], *, columns: int, gap: int) -> NDArray[np.uint8]:
    """Tiles uint8 `[n, height, width, 4]`, RGBA, row by row in one picture `[h, w, 4]`."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    picture = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        picture[top : top + height, left : left + width] = tile
    return picture


def encoded(picture: NDArray[np.uint8], kind: Literal["png", "webp"]) -> bytes:
    """A picture RGBA as a file: PNG keeps every pixel, WebP suits photographs."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "png":
        image.save(buffer, "PNG", compress_level=6)
    else:
        image.save(buffer, "WEBP", quality=75, method=2)
    return buffer.getvalue()
