"""An image file opened with Pillow: its header read and found to be worth decoding, nothing decoded yet.

Files come from strangers. What this lets through costs its decoder time and memory in proportion to its pixels.
"""

import ctypes
import functools
import struct
import zlib
from contextlib import suppress
from io import BytesIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
    _imaging,
)

from models.containers import for_decoder
from models.cost import MAX_SCANS, START_OF_SCAN, cost_of_jpeg
from models.errors import ImageTooCostly, ImageTooManyPixels, ImageUnreadable
from models.formats import AVIF, BEGIN_BYTES, BMP, JPEG, TIFF, ImageFormat, image_format, no_image

# AVIF's decoder holds the picture in its own colours beside the one that it returns.
AVIF_SHARE = 2
# Pillow decodes a BMP's run lengths in Python: a third of a second for these. A screen had 1024x768 in their day.
MAX_RUN_LENGTH_PIXELS = 800_000
RUN_LENGTH_DECODER = "bmp_rle"
# A BMP may have a colour profile behind its pixels.
MOST_BEHIND_RUN_LENGTHS = 64 * 2**10

# As many as a large photograph of twelve scans has. An empty one of 100 scans took eight seconds.
MAX_SCANNED_PIXELS = 12 * 64_000_000

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
# What Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip


def open_image(
    content: bytes, *, max_pixels: int, max_side: int, max_cost: int | None = None
) -> ImageFile.ImageFile:
    """The image with its header read and nothing decoded.

    Raises ImageTooManyPixels when the header claims more than `max_pixels` (of an AVIF half as many) or a side
    above `max_side`, ImageTooCostly for more than `max_cost` as `models.cost` counts; ImageUnreadable when the
    bytes are no picture of `models.formats`, when its header is damaged, or when it is made such that it costs a
    decoder more than its pixels are worth.
    """
    kind = image_format(content[:BEGIN_BYTES])
    if kind is None:
        raise ImageUnreadable(no_image(content[:BEGIN_BYTES]))
    checked = for_decoder(content, kind)
    if kind is TIFF:
        _silence_libtiff()
    # The default is a thread for each core, in each of the threads that decode.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Without it Pillow reads uncompressed strips in Python, and of strips that lie a byte apart byte by byte.
    TiffImagePlugin.READ_LIBTIFF = True
    try:
        image = Image.open(BytesIO(checked), formats=(kind.name,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooManyPixels(f"the picture claims more than the allowed {max_pixels:,} pixels") from exc
    except DECODER_ERRORS as exc:
        # Pillow drops the reason when no format accepts the file; what is left names an object's address.
        reason = "" if isinstance(exc, UnidentifiedImageError) else f": {reason_of(exc)}"
        raise ImageUnreadable(f"the header of this {kind.name} file is damaged or incomplete{reason}") from exc
    _check_size(image, kind, max_pixels, max_side)
    if kind is BMP:
        _check_run_lengths(image, content)
    if kind is TIFF and image.mode in ("I", "F"):
        raise ImageUnreadable(
            "the TIFF picture has 32 bits for each value, and nothing says which is white: save it with 8 or 16"
        )
    scans = _scans(image, checked) if kind is JPEG else 1
    _check_cost(image, kind, scans, max_cost)
    if kind is JPEG:
        # All at once: libjpeg begins a marker anew with each block that it is given, and a marker may be the file.
        image.decodermaxblock = len(checked)
    return image


def reason_of(exc: Exception) -> str:
    """What an exception of Pillow's says, or its name if that is nothing."""
    return str(exc) or type(exc).__name__


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


def _check_run_lengths(image: ImageFile.ImageFile, content: bytes) -> None:
    """A mark that paints no pixel costs the decoder as much as one that does, so both have to be few."""
    decoder, _, begin, _ = image.tile[0]
    if decoder != RUN_LENGTH_DECODER:
        return
    width, height = image.size
    if width * height > MAX_RUN_LENGTH_PIXELS:
        raise ImageUnreadable(
            f"the BMP picture is compressed by run lengths, which is read up to {MAX_RUN_LENGTH_PIXELS:,} pixels: "
            "save it without compression, or as PNG"
        )
    # Two bytes for each pixel, if each is a run of its own, and two for the end of each line.
    longest = 2 * width * height + 2 * height
    if len(content) - begin > longest + MOST_BEHIND_RUN_LENGTHS:
        raise ImageUnreadable(
            f"the BMP picture's run lengths take {len(content) - begin:,} bytes, and {width}x{height} pixels need "
            f"{longest:,} at most: save it without compression, or as PNG"
        )


def _scans(image: ImageFile.ImageFile, content: bytes) -> int:
    """How many the decoder will read of a JPEG; 1 where it stops behind the first."""
    if not _may_repeat_scans(image, content):
        return 1
    scans = content.count(START_OF_SCAN)
    if scans > MAX_SCANS:
        raise ImageUnreadable(
            f"the JPEG picture has more than {MAX_SCANS} scans; no camera or program writes that"
        )
    width, height = image.size
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise ImageUnreadable(
            f"the JPEG picture has {scans} scans of {width}x{height} pixels; at most {MAX_SCANNED_PIXELS:,} "
            "pixels in all scans are read: save it as a baseline JPEG"
        )
    return max(2, scans)


def _check_cost(image: ImageFile.ImageFile, kind: ImageFormat, scans: int, max_cost: int | None) -> None:
    pixels = image.size[0] * image.size[1]
    cost = cost_of_jpeg(pixels, scans) if kind is JPEG else pixels
    if max_cost is not None and cost > max_cost:
        raise ImageTooCostly(f"the {kind.name} picture costs as much to decode as {cost:,} pixels")


def _may_repeat_scans(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Whether the decoder would read more than the JPEG's first scan; counting scans costs a pass over the file.

    It reads only one when the picture is sequential and that scan holds every component. Pillow stops right
    behind the first scan's header, which is 8 bytes and 2 for each component.
    """
    components: int = getattr(image, "layers", 0)
    if image.info.get("progressive") or not components or image.fp is None:
        return True
    start = image.fp.tell() - 8 - 2 * components
    return start < 0 or content[start : start + 2] != START_OF_SCAN or content[start + 4] != components
