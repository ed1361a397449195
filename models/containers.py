"""What stands around the pixels in an image file, checked before Pillow walks through it step by step in Python.

Each step costs a microsecond, so a file of 30 MB that is nothing but steps would keep a core busy for minutes; and
EXIF data is not bounded by what a camera writes. The limits are far above what cameras and programs need.
"""

from collections.abc import Iterator

from models.errors import ImageUnreadable
from models.formats import AVIF, GIF, JPEG, PNG, TIFF, ImageFormat
from models.jpeg import bare_jpeg
from models.tiff import first_page, has_more_pages

MOST_CHUNKS = 100_000
MOST_OTHER_CHUNKS = 500
MOST_BLOCKS = 10_000
MOST_BLOCKS_OF_A_FRAME = 200_000
MOST_HEADER_BYTES = 2**20

GIF_HEADER_BYTES, GIF_IMAGE_BYTES = 13, 10
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B


def for_decoder(content: bytes, kind: ImageFormat) -> bytes:
    """The file as Pillow may be given it: the same pixels, without metadata that Pillow would read at length.

    Raises ImageUnreadable for a file of so many parts, or so much metadata, that no camera or program wrote it.
    """
    if kind is JPEG:
        return bare_jpeg(content)
    if kind is PNG:
        _check_png(content)
    elif kind is GIF:
        first_gif_image(content)
    elif kind is TIFF:
        return first_page(content)
    elif kind is AVIF:
        return _without_exif(content)
    return content


def has_more_frames(content: bytes, kind: ImageFormat) -> bool:
    """Whether a GIF or TIFF holds a second picture, without counting them. Raises ImageUnreadable.

    Of a GIF whose first frame lies in more pieces than any program makes, the rest is not looked for.
    """
    if kind is TIFF:
        return has_more_pages(content)
    if kind is not GIF:
        return False
    # Behind the image's place and its colours there is one byte, then its data.
    at = first_gif_image(content)
    at += GIF_IMAGE_BYTES + _gif_colours(content, at + GIF_IMAGE_BYTES - 1) + 1
    behind, blocks = _behind_blocks(content, at, MOST_BLOCKS_OF_A_FRAME)
    return blocks < MOST_BLOCKS_OF_A_FRAME and _next_gif_image(content, behind) is not None


def _check_png(content: bytes) -> None:
    """Pillow reads chunk by chunk, and inflates each colour profile that it meets."""
    at, others = 8, 0
    for _ in range(MOST_CHUNKS):
        if at >= len(content):
            return
        if content[at + 4 : at + 8] not in (b"IDAT", b"fdAT", b"fcTL"):
            others += 1
            if others > MOST_OTHER_CHUNKS:
                raise ImageUnreadable(
                    f"the PNG picture has more than {MOST_OTHER_CHUNKS} chunks beside its pixels"
                )
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    raise ImageUnreadable(f"the PNG picture has more than {MOST_CHUNKS} chunks")


def first_gif_image(content: bytes) -> int:
    """Where the first picture begins."""
    found = _next_gif_image(content, GIF_HEADER_BYTES + _gif_colours(content, 10))
    if found is None:
        raise ImageUnreadable("the GIF file holds no picture")
    return found


def _next_gif_image(content: bytes, at: int) -> int | None:
    """Where the next picture begins from a place between two blocks on; None behind the last one."""
    left = MOST_BLOCKS
    while left > 0:
        if at >= len(content) or content[at] == TRAILER:
            return None
        if content[at] == IMAGE:
            return at
        blocks = 0
        if content[at] == EXTENSION:
            at, blocks = _behind_blocks(content, at + 2, left)
        else:
            at += 1
        left -= 1 + blocks
    raise ImageUnreadable(f"the GIF picture has more than {MOST_BLOCKS} blocks before a frame")


def _behind_blocks(content: bytes, at: int, most: int) -> tuple[int, int]:
    """Behind the empty block that ends a row of them, or the file; and how many there are, at most `most`."""
    for blocks in range(most):
        if at >= len(content):
            return at, blocks
        length = content[at]
        at += 1 + length
        if length == 0:
            return at, blocks
    return at, most


def _gif_colours(content: bytes, at: int) -> int:
    """How many bytes the colour table takes that the flags at that place announce."""
    flags = content[at] if at < len(content) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _without_exif(content: bytes) -> bytes:
    """An AVIF whose EXIF item has another type, under which nobody looks for it.

    Its orientation is said by the picture's own properties; EXIF's is to be ignored (ISO/IEC 23008-12).
    """
    parts, header_bytes = [], 0
    for kind, box in _boxes(content):
        if kind in (b"meta", b"moov"):
            header_bytes += len(box)
            if header_bytes > MOST_HEADER_BYTES:
                raise ImageUnreadable(f"the AVIF picture's header is larger than {MOST_HEADER_BYTES // 1024} KiB")
            parts.append(box.replace(b"Exif", b"free"))
        else:
            parts.append(box)
    return b"".join(parts)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The file's outermost boxes with their kinds, as they lie; what is no box is the last one."""
    at = 0
    for _ in range(MOST_BLOCKS):
        if at >= len(content):
            return
        length = int.from_bytes(content[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(content[at + 8 : at + 16], "big")
        # Zero, and a length that cannot be, reach to the end.
        end = at + length if length >= 8 else len(content)
        yield content[at + 4 : at + 8], content[at:end]
        at = end
    raise ImageUnreadable(f"the AVIF picture has more than {MOST_BLOCKS} boxes")
