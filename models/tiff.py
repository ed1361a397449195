"""The first page of a TIFF file, with nothing in it but what makes its pixels.

Pillow makes Python objects of the values of every tag, and follows every page and every directory of metadata: of
a file of 30 MB these can be gigabytes. So all of that is taken out of its directory before Pillow reads it; and
what is left must describe strips or tiles that cost no more than the picture's own pixels.
(TIFF, revision 6.0, Adobe 1992; BigTIFF as libtiff reads it.)
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import ImageUnreadable

MOST_TAGS = 4096
# One for each row of the largest picture, for each of three colours.
MOST_STRIPS = 65_536
# A palette has 768.
MOST_VALUES = 1024

# Tiles end on a multiple of it. Programs choose up to `LARGE_TILE` whatever the picture's size.
TILE_STEP = 16
LARGE_TILE = 1024
# Pixels that tiles may hold beside the picture: without a share of its own a small one would allow none.
MOST_PADDING = 2048**2
# libtiff holds one strip or tile beside the picture, of which Pillow keeps four bytes for each pixel.
BYTES_OF_PIXEL = 4
MOST_SEGMENT_BYTES = 256 * 2**20
# A blank tile may stand for many.
MOST_SHARED_BYTES = 16 * 2**20

WIDTH, LENGTH, BITS, COMPRESSION, FILL_ORDER = 256, 257, 258, 259, 266
SAMPLES, ROWS_PER_STRIP, PLANES, TILE_WIDTH, TILE_LENGTH = 277, 278, 284, 322, 323
STRIP_BYTES, TILE_BYTES = 279, 325
STRIP_TAGS = frozenset({273, STRIP_BYTES, 324, TILE_BYTES})  # offsets and byte counts, of strips and of tiles
PIXEL_TAGS = STRIP_TAGS | {
    WIDTH, LENGTH, BITS, COMPRESSION, 262, FILL_ORDER, 274, SAMPLES, ROWS_PER_STRIP, PLANES, 292, 293, 317, 320,
    TILE_WIDTH, TILE_LENGTH, 332, 338, 339, 347, 529, 530, 531, 532,
}  # fmt: skip
# What libtiff decodes in bounded memory and photographs and scans are kept in.
COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 7: "JPEG", 8: "deflate",
    32773: "PackBits", 32946: "deflate",
}  # fmt: skip
# Whose bits may come in the other order. For the rest the standard advises against it, and libtiff copies each
# strip.
REVERSIBLE = frozenset({1, 2, 3, 4})
BYTE_TYPES = frozenset({1, 2, 6, 7})  # kept as they are, so that many of them cost no more than their size
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class _Form:
    """How a directory is written: byte order, and `struct`'s letters for classic TIFF or for BigTIFF."""

    order: str
    header: int
    offset: str
    count: str
    entry: str

    def struct(self, fields: str) -> struct.Struct:
        return struct.Struct(self.order + fields)


@dataclass(frozen=True)
class _Entry:
    tag: int
    kind: int
    count: int
    inline: bytes
    raw: bytes


@dataclass(frozen=True)
class _Directory:
    content: bytes
    form: _Form
    entries: Mapping[int, _Entry]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The values of a tag of whole numbers; none where it is not there."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        try:
            values = self.form.struct(f"{entry.count}{WHOLE_NUMBERS[entry.kind]}")
            if values.size <= len(entry.inline):
                return values.unpack_from(entry.inline)
            (at,) = self.form.struct(self.form.offset).unpack(entry.inline)
            return values.unpack_from(self.content, at)
        except (KeyError, struct.error, OverflowError) as error:
            raise _damaged() from error

    def number(self, tag: int, default: int | None = None) -> int:
        if tag not in self.entries and default is not None:
            return default
        values = self.numbers(tag)
        if len(values) != 1:
            raise _damaged()
        return values[0]


def first_page(content: bytes) -> bytes:
    """The file, such that its one directory holds the tags that make the first page's pixels and no other.

    Raises ImageUnreadable for a damaged directory, for more strips, values or tags than an honest file has, for
    strips or tiles that decode to far more than the picture or claim the same bytes again and again, and for a
    compression, or an order of bits in it, that is not read.
    """
    form, start = _header(content)
    kept = [entry for entry in _entries(content, form, start)[0] if entry.tag in PIXEL_TAGS]
    # Of a tag that is there twice, the first counts.
    directory = _Directory(content, form, {entry.tag: entry for entry in reversed(kept)})
    _check_counts(directory)
    _check_compression(directory)
    _check_segments(directory)
    page = b"".join((
        form.struct(form.count).pack(len(directory.entries)),
        *(directory.entries[tag].raw for tag in sorted(directory.entries)),
        form.struct(form.offset).pack(0),
    ))  # fmt: skip
    return b"".join((content[:start], page, content[start + len(page) :]))


def page_size(content: bytes) -> tuple[int, int]:
    """Width and height of the first page. Raises ImageUnreadable for a damaged directory."""
    form, start = _header(content)
    found = {entry.tag: entry for entry in reversed(_entries(content, form, start)[0])}
    directory = _Directory(content, form, {tag: found[tag] for tag in (WIDTH, LENGTH) if tag in found})
    _check_counts(directory)
    return directory.number(WIDTH), directory.number(LENGTH)


def has_more_pages(content: bytes) -> bool:
    """Whether another page follows the first. Raises ImageUnreadable for a damaged directory."""
    form, start = _header(content)
    return _entries(content, form, start)[1] != 0


def _header(content: bytes) -> tuple[_Form, int]:
    order = "<" if content[:2] == b"II" else ">"
    try:
        if struct.unpack_from(f"{order}H", content, 2)[0] == 43:
            form = _Form(order, 16, "Q", "Q", "HHQ8s")
            (start,) = struct.unpack_from(f"{order}Q", content, 8)
        else:
            form = _Form(order, 8, "I", "H", "HHI4s")
            (start,) = struct.unpack_from(f"{order}I", content, 4)
    except struct.error as error:
        raise _damaged() from error
    if start < form.header:
        raise _damaged()
    return form, start


def _entries(content: bytes, form: _Form, start: int) -> tuple[list[_Entry], int]:
    """The tags of the first directory, and where the next one begins: 0 when there is none."""
    counter, layout, pointer = form.struct(form.count), form.struct(form.entry), form.struct(form.offset)
    try:
        (count,) = counter.unpack_from(content, start)
        if not 0 < count <= MOST_TAGS:
            raise ImageUnreadable(f"the TIFF picture's directory has {count} tags; at most {MOST_TAGS} are read")
        begin = start + counter.size
        end = begin + count * layout.size
        (following,) = pointer.unpack_from(content, end)
    except (struct.error, OverflowError) as error:
        raise _damaged() from error
    entries = []
    for at in range(begin, end, layout.size):
        tag, kind, values, inline = layout.unpack_from(content, at)
        entries.append(_Entry(tag, kind, values, inline, content[at : at + layout.size]))
    return entries, following


def _check_counts(directory: _Directory) -> None:
    for entry in directory.entries.values():
        most = MOST_STRIPS if entry.tag in STRIP_TAGS or entry.kind in BYTE_TYPES else MOST_VALUES
        if entry.count > most:
            raise ImageUnreadable(
                f"the TIFF picture's tag {entry.tag} has {entry.count} values; at most {most} are read"
            )


def _check_compression(directory: _Directory) -> None:
    given = directory.number(COMPRESSION, 1)
    if given not in COMPRESSIONS:
        read = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        raise ImageUnreadable(f"the TIFF picture's compression {given} is not read, only {read}: save it with one")
    order = directory.number(FILL_ORDER, 1)
    if order != 1 and given not in REVERSIBLE:
        raise ImageUnreadable(
            f"the TIFF picture's bits are in the order {order}, which is read uncompressed and of CCITT, not of "
            f"{COMPRESSIONS[given]}: save it in the order 1"
        )


def _check_segments(directory: _Directory) -> None:
    """A segment is a strip or a tile. libtiff decodes them whole, one after the other, whatever the picture shows
    of them, and goes through the bytes that each claims."""
    width, length = directory.number(WIDTH), directory.number(LENGTH)
    if TILE_WIDTH in directory.entries or TILE_LENGTH in directory.entries:
        across, down = directory.number(TILE_WIDTH), directory.number(TILE_LENGTH)
        if not (0 < across <= _largest_tile(width) and 0 < down <= _largest_tile(length)):
            raise ImageUnreadable(f"the TIFF picture is {width}x{length} pixels and its tiles {across}x{down}")
        decoded = -(-width // across) * across * -(-length // down) * down
        if decoded > 2 * width * length + MOST_PADDING:
            raise ImageUnreadable(
                f"the TIFF picture is {width}x{length} pixels and its tiles {across}x{down}, of which most lies "
                "outside: save it with smaller tiles"
            )
    else:
        across, down = width, min(length, directory.number(ROWS_PER_STRIP, length))
    samples = directory.number(SAMPLES, 1) if directory.number(PLANES, 1) == 1 else 1
    held = across * down * samples * max(directory.numbers(BITS), default=1) // 8
    if held > max(MOST_SEGMENT_BYTES, BYTES_OF_PIXEL * width * length):
        raise ImageUnreadable(
            f"each strip or tile of the TIFF picture holds {held:,} bytes of pixels; at most "
            f"{MOST_SEGMENT_BYTES:,} are read: save it with smaller ones"
        )
    claimed = sum(directory.numbers(STRIP_BYTES)) + sum(directory.numbers(TILE_BYTES))
    if claimed > 2 * len(directory.content) + MOST_SHARED_BYTES:
        raise ImageUnreadable(
            f"the TIFF picture's strips or tiles claim {claimed:,} bytes of a file of {len(directory.content):,}"
        )


def _largest_tile(side: int) -> int:
    return max(LARGE_TILE, -(-side // TILE_STEP) * TILE_STEP)


def _damaged() -> ImageUnreadable:
    return ImageUnreadable("the header of this TIFF file is damaged or incomplete")
