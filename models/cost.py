"""What it will cost to decode an image file, by what its header declares. Decodes nothing and knows no Pillow.

The gateway asks, to keep what is costly from holding up the rest, and so does the worker. A file whose header lies
is found out by its decoder, which is given a limit of its own.
"""

import struct
from contextlib import suppress

from models.containers import first_gif_image
from models.errors import ImageUnreadable
from models.formats import AVIF, BEGIN_BYTES, BMP, GIF, JPEG, PNG, TIFF, WEBP, ImageFormat, image_format
from models.tiff import page_size

# What takes a core a quarter of a second, and 80 MB, at the most.
COSTLY_PIXELS = 8_000_000
# libjpeg leaves out what the reduced picture does not need.
SEQUENTIAL_SHARE = 8
# A progressive photograph has about ten scans, each of which is a pass over all pixels.
USUAL_SCANS = 12
# A JPEG may repeat its scans without end, each a few bytes that cost the decoder a pass over all pixels: a file of
# 1 MB can keep a core busy for minutes.
MAX_SCANS = 100
# Twenty milliseconds of one that is made for it. A progressive photograph of more bytes has many pixels.
MOST_COUNTED_BYTES = 4 * 2**20

MOST_SEGMENTS = 4096
START_OF_SCAN = b"\xff\xda"
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xDA)})
FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})


def decoding_cost(content: bytes) -> int:
    """In pixels of a format that is decoded whole, such as PNG; 0 for a file that cannot be decoded."""
    kind = image_format(content[:BEGIN_BYTES])
    with suppress(struct.error, IndexError, ImageUnreadable):
        if kind is JPEG:
            return _cost_of_jpeg(content)
        if kind is not None:
            width, height = _declared_size(content, kind)
            return width * height
    return 0


def cost_of_jpeg(pixels: int, scans: int) -> int:
    """`scans` is 1 where the decoder reads the first only."""
    return pixels // SEQUENTIAL_SHARE if scans == 1 else pixels * max(scans, USUAL_SCANS) // USUAL_SCANS


def _cost_of_jpeg(content: bytes) -> int:
    at = 2
    for _ in range(MOST_SEGMENTS):
        at = content.find(b"\xff", at)
        if at < 0 or at + 9 > len(content):
            return 0
        kind = content[at + 1]
        if kind in FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return cost_of_jpeg(width * height, 1 if kind in SEQUENTIAL else _scans(content, at, width * height))
        if kind in (0x00, 0xFF) or kind in BARE_MARKERS:
            at += 1 if kind == 0xFF else 2
        else:
            at += 2 + max(2, int.from_bytes(content[at + 2 : at + 4], "big"))
    return 0


def _scans(content: bytes, at: int, pixels: int) -> int:
    """How many a progressive JPEG has; as many as there can be where counting would take long or tell nothing."""
    if pixels * MAX_SCANS <= COSTLY_PIXELS * USUAL_SCANS or len(content) - at > MOST_COUNTED_BYTES:
        return MAX_SCANS
    return max(2, content.count(START_OF_SCAN, at))


def _declared_size(content: bytes, kind: ImageFormat) -> tuple[int, int]:
    if kind is PNG:
        return _pair(">II", content, 16)
    if kind is BMP:
        if int.from_bytes(content[14:18], "little") == 12:
            return _pair("<HH", content, 18)
        width, height = _pair("<ii", content, 18)
        return abs(width), abs(height)
    if kind is GIF:
        return size_of_gif(content)
    if kind is WEBP:
        return _size_of_webp(content)
    if kind is TIFF:
        return page_size(content)
    if kind is AVIF:
        return _size_of_avif(content)
    raise ImageUnreadable(f"the size of a {kind.name} picture cannot be read")


def size_of_gif(content: bytes) -> tuple[int, int]:
    """Its frame may be larger than its screen."""
    at = first_gif_image(content)
    left, top, width, height = struct.unpack_from("<HHHH", content, at + 1)
    screen = _pair("<HH", content, 6)
    return max(screen[0], left + width), max(screen[1], top + height)


def _size_of_webp(content: bytes) -> tuple[int, int]:
    chunk = content[12:16]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if chunk == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = _pair("<HH", content, 26)
    return width & 0x3FFF, height & 0x3FFF


def _size_of_avif(content: bytes) -> tuple[int, int]:
    """The largest of the sizes that it has: of the picture, its tiles, its thumbnail, its transparency."""
    sizes = [(0, 0)]
    at = content.find(b"ispe", 0, 2**20)
    while at >= 0 and len(sizes) < MOST_SEGMENTS:
        sizes.append(_pair(">II", content, at + 8))
        at = content.find(b"ispe", at + 4, 2**20)
    return max(sizes, key=lambda size: size[0] * size[1])


def _pair(form: str, content: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, content, at)
    return first, second
