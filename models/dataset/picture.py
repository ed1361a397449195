"""What one look at a picture tells: size, mode, format, perceptual hash, thumbnail. Knows no dataset.

The picture is decoded by `models.preprocess`, so what passes here is what training and serving can read.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from models.containers import has_more_frames
from models.formats import GIF, TIFF
from models.image_file import open_image
from models.orientation import orientation_of
from models.preprocess import MAX_PIXELS, MAX_SIDE, SWAPS_SIDES, prepare
from models.spec import Preprocessing

THUMBNAIL_SIDE = 160
THUMBNAIL_QUALITY = 75

HASH_INPUT_SIDE = 32
HASH_SIDE = 8
FINGERPRINT_SIDE = 16


@dataclass(frozen=True)
class PictureInfo:
    """`width` and `height` are those of the upright picture, `phash` is 16 hexadecimal digits.

    `fingerprint` is the picture as 16 x 16 grey values, to tell equal scenes from those of an equal hash.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: int
    phash: str
    fingerprint: bytes


def look(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[PictureInfo, bytes]:
    """Decode a picture once: its description, and its thumbnail as a WebP file.

    Raises ImageUnreadable and ImageTooManyPixels as `models.preprocess.prepare` does.
    """
    header = _header(content, max_pixels)
    shrink = max(1.0, max(header.width, header.height) / THUMBNAIL_SIDE)
    small = Preprocessing(
        height=max(1, round(header.height / shrink)),
        width=max(1, round(header.width / shrink)),
        fit="squash",
        interpolation="bilinear",
    )
    view = Image.fromarray(prepare(content, small, max_pixels=max_pixels))
    grey = view.convert("L")
    picture = PictureInfo(
        format=header.format,
        mode=header.mode,
        width=header.width,
        height=header.height,
        frames=header.frames,
        phash=perceptual_hash(grey),
        fingerprint=grey.resize((FINGERPRINT_SIDE, FINGERPRINT_SIDE), Image.Resampling.BOX).tobytes(),
    )
    return picture, _webp(view)


def perceptual_hash(grey: Image.Image) -> str:
    """64 bits, as 16 hexadecimal digits: which of the lowest 8 x 8 cosine frequencies lie above their median.

    Rescaling, re-encoding and slight changes of brightness turn few of them. (The "pHash" of Zauner,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.)
    """
    small = grey.resize((HASH_INPUT_SIDE, HASH_INPUT_SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float64)
    frequencies = (COSINES @ pixels @ COSINES.T).ravel()
    # The first is the mean brightness, which says nothing of the content. The middle one of the other 63:
    middle = np.partition(frequencies[1:], frequencies.size // 2 - 1)[frequencies.size // 2 - 1]
    bits = frequencies > middle
    return np.packbits(bits).tobytes().hex()


@dataclass(frozen=True)
class _Header:
    format: str
    mode: str
    width: int
    height: int
    frames: int


def _header(content: bytes, max_pixels: int) -> _Header:
    with open_image(content, max_pixels=max_pixels, max_side=MAX_SIDE) as image:
        width, height = image.size
        # A TIFF's size is that of the upright picture already.
        if orientation_of(image.info) in SWAPS_SIDES:
            width, height = height, width
        kind = str(image.format)
        return _Header(kind, image.mode, width, height, _frames(content, image, kind))


def _frames(content: bytes, image: ImageFile.ImageFile, kind: str) -> int:
    """How many there are where the header says so, 2 for a GIF or TIFF of several, which would have to be counted.

    A phone's MPO has its depth map as a second frame; that is no animation.
    """
    if kind == "JPEG":
        return 1
    if kind in (GIF.name, TIFF.name):
        return 2 if has_more_frames(content, GIF if kind == GIF.name else TIFF) else 1
    return int(getattr(image, "n_frames", 1))


def _webp(image: Image.Image) -> bytes:
    buffer = BytesIO()
    # libwebp's fastest methods: a thumbnail grows by a tenth and costs half the time.
    image.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY, method=1)
    return buffer.getvalue()


def _cosines() -> NDArray[np.float64]:
    """The first rows of the discrete cosine transform, `[HASH_SIDE, HASH_INPUT_SIDE]`."""
    positions = (2 * np.arange(HASH_INPUT_SIDE) + 1) * np.pi / (2 * HASH_INPUT_SIDE)
    cosines: NDArray[np.float64] = np.cos(np.outer(np.arange(HASH_SIDE), positions))
    return cosines


COSINES = _cosines()
