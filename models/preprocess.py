"""From an image file to the pixels that a network is given: the only preprocessing code that there is.

Training, evaluation, the parity gate and serving all call `prepare`, so they see the same pixels. What happens
after it (normalisation, layout) is part of the network's graph. Knows no torch and no network.
"""

import ctypes
import functools
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
    _imaging,
)
from PIL.Image import Resampling, Transpose

from models.containers import for_decoder
from models.errors import ImageTooManyPixels, ImageUnreadable
from models.formats import AVIF, BEGIN_BYTES, BMP, TIFF, ImageFormat, image_format, no_image
from models.orientation import orientation_of
from models.spec import Preprocessing

MAX_PIXELS = 64_000_000
MAX_SIDE = 16_384
# AVIF's decoder holds the picture in its own colours beside the one that it returns.
AVIF_SHARE = 2
# Pillow decodes run lengths in Python, pixel by pixel.
MAX_RUN_LENGTH_PIXELS = 4_000_000

# A JPEG may repeat its scans without end, each a few bytes that cost the decoder a pass over all pixels: a file of
# 1 MB can keep a core busy for minutes. A progressive photograph has about ten.
MAX_SCANS = 100
START_OF_SCAN = b"\xff\xda"

# Pillow tries the formats that it has loaded; without these it would load all that it knows.
PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    TiffImagePlugin.TiffImageFile,
    AvifImagePlugin.AvifImageFile,
)
# Phones write a JPEG with a depth or gain map behind it as MPO; its first picture is an ordinary JPEG.
JPEG_FORMATS = (JpegImagePlugin.JpegImageFile.format, MpoImagePlugin.MpoImageFile.format)

# libjpeg shrinks by 2, 4 or 8 while it decodes, which is coarser than Pillow's filters. Keeping this many times
# the final size leaves the last, visible step to the filter.
DRAFT_MARGIN = 2

# What Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip

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
RUN_LENGTHS = frozenset({1, 2})

Box = tuple[float, float, float, float]
Size = tuple[int, int]


def prepare(
    data: bytes | Path,
    preprocessing: Preprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_SIDE,
) -> NDArray[np.uint8]:
    """Decode an image of one of `models.formats` and cut the network's view out of it.

    Returns uint8 `[height, width, 3]`, RGB, 0 to 255, contiguous and writable; the same for the same bytes.

    Pictures are turned upright by their EXIF orientation. Transparency is laid on white; grey, palette, CMYK and
    16-bit pictures become 8-bit RGB (16 bits keep their high byte); colour profiles are ignored. Of an animation
    the first frame counts, which is what a still preview shows, and of a TIFF the first page. Large JPEGs are
    decoded at a half, a quarter or an eighth, never below twice the size that the resize step makes of them.

    Raises ImageTooManyPixels before anything is decoded when the header claims more than `max_pixels` (of an AVIF
    half as many) or a side above `max_side`; ImageUnreadable when the bytes are no such picture, are damaged or
    end too early. A path that cannot be read raises OSError.
    """
    content = data if isinstance(data, bytes) else data.read_bytes()
    image = open_image(content, max_pixels=max_pixels, max_side=max_side)
    if _may_repeat_scans(image, content) and content.count(START_OF_SCAN) > MAX_SCANS:
        raise ImageUnreadable(
            f"the JPEG picture has more than {MAX_SCANS} scans; no camera or program writes that"
        )
    try:
        full_size = image.size
        scale = _draft(image, preprocessing)
        image.load()
        # A GIF's frame may be larger than its screen, and a TIFF is turned while it is loaded.
        full_size = full_size if scale > 1 else image.size
        orientation = orientation_of(image.info)
    except DECODER_ERRORS as exc:
        raise ImageUnreadable(f"the {image.format} picture cannot be decoded: {_reason(exc)}") from exc
    return _view(_plain(image), full_size, scale, orientation, preprocessing)


def open_image(content: bytes, *, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE) -> ImageFile.ImageFile:
    """The image with its header read and nothing decoded. Raises ImageTooManyPixels and ImageUnreadable."""
    kind = image_format(content[:BEGIN_BYTES])
    if kind is None:
        raise ImageUnreadable(no_image(content[:BEGIN_BYTES]))
    checked = for_decoder(content, kind, max_side)
    if kind is TIFF:
        _silence_libtiff()
    # The default is a thread for each core, in each of the threads that decode.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        image = Image.open(BytesIO(checked), formats=(kind.name,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooManyPixels(f"the picture claims more than the allowed {max_pixels:,} pixels") from exc
    except DECODER_ERRORS as exc:
        # Pillow drops the reason when no format accepts the file; what is left names an object's address.
        reason = "" if isinstance(exc, UnidentifiedImageError) else f": {_reason(exc)}"
        raise ImageUnreadable(f"the header of this {kind.name} file is damaged or incomplete{reason}") from exc
    _check_size(image, kind, max_pixels, max_side)
    return image


@functools.cache
def _silence_libtiff() -> None:
    """By itself libtiff writes a line to standard error for each row of pixels that is damaged."""
    with suppress(OSError, AttributeError):
        # Found through Pillow's own module, which is linked to its copy of the library.
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes = [ctypes.c_void_p]
        set_handler(None)


def _check_size(image: ImageFile.ImageFile, kind: ImageFormat, max_pixels: int, max_side: int) -> None:
    width, height = image.size
    allowed = max_pixels // AVIF_SHARE if kind is AVIF else max_pixels
    if width * height > allowed or max(width, height) > max_side:
        raise ImageTooManyPixels(
            f"the {kind.name} picture is {width}x{height} = {width * height:,} pixels; at most {allowed:,} and "
            f"{max_side:,} to a side are allowed: shrink it before sending"
        )
    if kind is BMP and image.info.get("compression") in RUN_LENGTHS and width * height > MAX_RUN_LENGTH_PIXELS:
        raise ImageUnreadable(
            f"the BMP picture is compressed by run lengths, which is read up to {MAX_RUN_LENGTH_PIXELS:,} pixels: "
            "save it without compression, or as PNG"
        )
    if kind is TIFF and image.mode in ("I", "F"):
        raise ImageUnreadable(
            "the TIFF picture has 32 bits for each value, and nothing says which is white: save it with 8 or 16"
        )


def _may_repeat_scans(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Whether the decoder would read more than the JPEG's first scan; counting scans costs a pass over the file.

    It reads only one when the picture is sequential and that scan holds every component. Pillow stops right
    behind the first scan's header, which is 8 bytes and 2 for each component.
    """
    if image.format not in JPEG_FORMATS:
        return False
    components: int = getattr(image, "layers", 0)
    if image.info.get("progressive") or not components or image.fp is None:
        return True
    start = image.fp.tell() - 8 - 2 * components
    return start < 0 or content[start : start + 2] != START_OF_SCAN or content[start + 4] != components


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__


def _draft(image: ImageFile.ImageFile, preprocessing: Preprocessing) -> int:
    """Let libjpeg decode at a reduced scale; returns by what the sides were divided."""
    if image.format not in JPEG_FORMATS:
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
