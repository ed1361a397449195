"""From an image file to the pixels that a network is given: the only preprocessing code that there is.

Training, evaluation, the parity gate and serving all call `prepare`, so they see the same pixels. What happens
after it (normalisation, layout) is part of the network's graph. Knows no torch and no network.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.Image import Resampling, Transpose

from models.cost import size_of_gif
from models.errors import ImageUnreadable
from models.formats import GIF, JPEG
from models.image_file import DECODER_ERRORS, open_image, reason_of
from models.orientation import orientation_of
from models.spec import Preprocessing

MAX_PIXELS = 64_000_000
MAX_SIDE = 16_384

# libjpeg shrinks by 2, 4 or 8 while it decodes, which is coarser than Pillow's filters. Keeping this many times
# the final size leaves the last, visible step to the filter.
DRAFT_MARGIN = 2

RESAMPLING = {
    "nearest": Resampling.NEAREST,
    "bilinear": Resampling.BILINEAR,
    "bicubic": Resampling.BICUBIC,
    "lanczos": Resampling.LANCZOS,
}

# EXIF orientation -> what turns the stored picture upright.
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SWAPS_SIDES = frozenset({5, 6, 7, 8})
MIRRORS_X = frozenset({2, 3, 6, 7})
MIRRORS_Y = frozenset({3, 4, 7, 8})

Box = tuple[float, float, float, float]
Size = tuple[int, int]


def prepare(
    data: bytes | Path,
    preprocessing: Preprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_SIDE,
    max_cost: int | None = None,
) -> NDArray[np.uint8]:
    """Decode an image of one of `models.formats` and cut the network's view out of it.

    Returns uint8 `[height, width, 3]`, RGB, 0 to 255, contiguous and writable; the same for the same bytes.

    Pictures are turned upright by their EXIF orientation. Transparency is laid on white; grey, palette, CMYK and
    16-bit pictures become 8-bit RGB (16 bits keep their high byte); colour profiles are ignored. Of an animation
    the first frame counts, which is what a still preview shows, and of a TIFF the first page. Large JPEGs are
    decoded at a half, a quarter or an eighth, never below twice the size that the resize step makes of them.

    Raises ImageTooManyPixels before anything is decoded when the header claims more than `max_pixels` (of an AVIF
    half as many) or a side above `max_side`, and ImageTooCostly when it would cost more than `max_cost`, as
    `models.cost` counts; ImageUnreadable when the bytes are no such picture, are damaged or end too early. A path
    that cannot be read raises OSError.
    """
    content = data if isinstance(data, bytes) else data.read_bytes()
    image = open_image(content, max_pixels=max_pixels, max_side=max_side, max_cost=max_cost)
    try:
        full_size = image.size
        scale = _draft(image, preprocessing)
        image.load()
        # A GIF's frame may be larger than its screen, and a TIFF is turned while it is loaded.
        full_size = full_size if scale > 1 else image.size
        orientation = orientation_of(image.info)
    except DECODER_ERRORS as exc:
        raise ImageUnreadable(f"the {image.format} picture cannot be decoded: {reason_of(exc)}") from exc
    return _view(_plain(image), full_size, scale, orientation, preprocessing)


def upright_size(content: bytes, *, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE) -> Size:
    """Width and height of the picture as it is looked at, by its header; raises what `prepare` raises.

    What `prepare` shows of it is `region_of` that size.
    """
    image = open_image(content, max_pixels=max_pixels, max_side=max_side)
    # A GIF's frame may be larger than its screen.
    width, height = size_of_gif(content) if image.format == GIF.name else image.size
    return (height, width) if orientation_of(image.info) in SWAPS_SIDES else (width, height)


def region_of(size: Size, preprocessing: Preprocessing) -> Box:
    """Left, top, right and bottom of what the network sees, in pixels of an upright picture of that size."""
    return _window(size, preprocessing)


def _draft(image: ImageFile.ImageFile, preprocessing: Preprocessing) -> int:
    """Let libjpeg decode at a reduced scale; returns by what the sides were divided."""
    if image.format != JPEG.name:
        return 1
    if preprocessing.fit == "crop":
        target = (preprocessing.resize, preprocessing.resize)
    elif orientation_of(image.info) in SWAPS_SIDES:
        target = (preprocessing.height, preprocessing.width)
    else:
        target = (preprocessing.width, preprocessing.height)
    image.draft(None, (DRAFT_MARGIN * target[0], DRAFT_MARGIN * target[1]))
    scale: int = image.decoderconfig[0]
    return scale


def _plain(image: Image.Image) -> Image.Image:
    """The picture as RGB or L, in which resampling is right and cheapest."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16B"):
        # The high byte, as Pillow itself does with 16-bit colour.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(layered, mask=layered)
        return canvas
    return image.convert("L" if image.mode == "1" else "RGB")


def _view(
    image: Image.Image, full_size: Size, scale: int, orientation: int, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    swaps = orientation in SWAPS_SIDES
    upright_size = (full_size[1], full_size[0]) if swaps else full_size
    box = _as_stored(_window(upright_size, preprocessing), upright_size, orientation)
    within = (box[0] / scale, box[1] / scale, min(box[2] / scale, image.width), min(box[3] / scale, image.height))
    height, width = preprocessing.height, preprocessing.width
    size = (height, width) if swaps else (width, height)
    # Only the pixels of the view are computed; a filter's taps still reach past the box, as if all had been.
    view = image.resize(size, RESAMPLING[preprocessing.interpolation], box=within)
    if orientation in UPRIGHT:
        view = view.transpose(UPRIGHT[orientation])
    if view.mode != "RGB":
        view = view.convert("RGB")
    return np.array(view)


def _window(size: Size, preprocessing: Preprocessing) -> Box:
    """What the view covers, in pixels of the upright picture.

    The longer side is rounded to the nearest pixel and the crop's offset down, as in the reference figures that
    Fovea is measured against. torchvision rounds the other way round; half a pixel turns two close calls of 100.
    """
    width, height = size
    if preprocessing.fit == "squash":
        return (0, 0, width, height)
    shorter = min(width, height)
    resized = (round(preprocessing.resize * width / shorter), round(preprocessing.resize * height / shorter))
    left = (resized[0] - preprocessing.width) // 2
    top = (resized[1] - preprocessing.height) // 2
    across, down = width / resized[0], height / resized[1]
    return (
        left * across,
        top * down,
        min((left + preprocessing.width) * across, width),
        min((top + preprocessing.height) * down, height),
    )


def _as_stored(box: Box, upright_size: Size, orientation: int) -> Box:
    left, top, right, bottom = box
    width, height = upright_size
    if orientation in MIRRORS_X:
        left, right = width - right, width - left
    if orientation in MIRRORS_Y:
        top, bottom = height - bottom, height - top
    if orientation in SWAPS_SIDES:
        left, top, right, bottom = top, left, bottom, right
    return (left, top, right, bottom)
