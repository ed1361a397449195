"""The first page of a TIFF file, with nothing in it but what makes its pixels.

Pillow makes Python objects of the values of every tag, and follows every page and every directory of metadata: of
a file of 30 MB these can be gigabytes. So all of that is taken out of its directory before Pillow reads it.
(TIFF, revision 6.0, Adobe 1992; BigTIFF as libtiff reads it.)
"""

import struct
from dataclasses import dataclass

from models.errors import ImageUnreadable

MOST_TAGS = 4096
# One for each row of the largest picture, for each of three colours.
MOST_STRIPS = 65_536
# A palette has 768.
MOST_VALUES = 1024

COMPRESSION, TILE_WIDTH, TILE_LENGTH = 259, 322, 323
STRIP_TAGS = frozenset({273, 279, 324, 325})  # offsets and byte counts, of strips and of tiles
PIXEL_TAGS = STRIP_TAGS | {
    256, 257, 258, COMPRESSION, 262, 266, 274, 277, 278, 284, 292, 293, 317, 320, TILE_WIDTH, TILE_LENGTH,
    332, 338, 339, 347, 529, 530, 531, 532,
}  # fmt: skip
# What libtiff decodes in bounded memory and photographs and scans are kept in.
COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 7: "JPEG", 8: "deflate",
    32773: "PackBits", 32946: "deflate",
}  # fmt: skip
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


def first_page(content: bytes, max_side: int) -> bytes:
    """The file, such that its one directory holds the tags that make the first page's pixels and no other.

    Raises ImageUnreadable for a damaged directory, for more strips, values or tags than an honest file has, for
    tiles with a side above `max_side`, and for a compression that is not read.
    """
    form, start = _header(content)
    kept = [entry for entry in _entries(content, form, start)[0] if entry.tag in PIXEL_TAGS]
    # Of a tag that is there twice, the first counts.
    kept = list({entry.tag: entry for entry in reversed(kept)}.values())
    for entry in kept:
        _check(entry, form, max_side)
    directory = b"".join((
        form.struct(form.count).pack(len(kept)),
        *(entry.raw for entry in sorted(kept, key=lambda entry: entry.tag)),
        form.struct(form.offset).pack(0),
    ))  # fmt: skip
    return b"".join((content[:start], directory, content[start + len(directory) :]))


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


def _check(entry: _Entry, form: _Form, max_side: int) -> None:
    most = MOST_STRIPS if entry.tag in STRIP_TAGS or entry.kind in BYTE_TYPES else MOST_VALUES
    if entry.count > most:
        raise ImageUnreadable(
            f"the TIFF picture's tag {entry.tag} has {entry.count} values; at most {most} are read"
        )
    if entry.tag in (TILE_WIDTH, TILE_LENGTH) and not 0 < _number(entry, form) <= max_side:
        raise ImageUnreadable(f"the TIFF picture's tiles are {_number(entry, form)} pixels to a side")
    if entry.tag == COMPRESSION and (given := _number(entry, form)) not in COMPRESSIONS:
        read = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        raise ImageUnreadable(f"the TIFF picture's compression {given} is not read, only {read}: save it with one")


def _number(entry: _Entry, form: _Form) -> int:
    """The value of a tag that has one whole number."""
    try:
        number: int = form.struct(WHOLE_NUMBERS[entry.kind]).unpack_from(entry.inline)[0]
    except (KeyError, struct.error) as error:
        raise _damaged() from error
    if entry.count != 1:
        raise _damaged()
    return number


def _damaged() -> ImageUnreadable:
    return ImageUnreadable("the header of this TIFF file is damaged or incomplete")
