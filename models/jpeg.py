"""A JPEG file with nothing before its first scan but what makes its pixels and turns them upright.

Pillow reads a header in Python: it looks at every byte between two segments, joins EXIF segments one by one, makes
objects of every table, of the settings that Photoshop leaves, and of the index of a phone's several pictures. Of a
file of 30 MB that takes it seconds. (ITU-T T.81, annex B.)
"""

from models.errors import ImageUnreadable

MOST_SEGMENTS = 4096
MOST_EXIF_BYTES = 256 * 2**10
# All tables that a decoder can hold at once take 3 KB.
MOST_TABLE_BYTES = 64 * 2**10

MARKER = b"\xff"
ESCAPED, PADDING, SCAN = 0x00, 0xFF, 0xDA
# Without a length behind them: TEM, RST0 to RST7, SOI, EOI.
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xDA)})
# Frame, Huffman, arithmetic and quantization tables, restart interval.
TABLES = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDD} - {0xC8})
JFIF, EXIF_OR_XMP, ADOBE = 0xE0, 0xE1, 0xEE
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def bare_jpeg(content: bytes) -> bytes:
    """The file without comments, junk and those segments of programs that say nothing of its pixels.

    Raises ImageUnreadable for more segments, tables or EXIF data than a camera or program writes, and for a
    segment that is shorter than its own length.
    """
    parts = [content[:2]]
    at, exif, tables = 2, 0, 0
    for _ in range(MOST_SEGMENTS):
        at = content.find(MARKER, at)
        if at < 0 or at + 3 >= len(content):
            return b"".join(parts)
        kind = content[at + 1]
        if kind == SCAN:
            parts.append(content[at:])
            return b"".join(parts)
        if kind in (ESCAPED, PADDING) or kind in BARE_MARKERS:
            at += 1 if kind == PADDING else 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2:
            raise ImageUnreadable("the header of this JPEG file is damaged or incomplete")
        segment = content[at : at + 2 + length]
        exif += length if _is_exif(segment) else 0
        tables += length if kind in TABLES else 0
        if exif > MOST_EXIF_BYTES:
            raise ImageUnreadable(f"the JPEG picture has more than {MOST_EXIF_BYTES // 1024} KiB of EXIF data")
        if tables > MOST_TABLE_BYTES:
            raise ImageUnreadable(f"the JPEG picture has more than {MOST_TABLE_BYTES // 1024} KiB of tables")
        if kind in TABLES or kind in (JFIF, ADOBE) or _is_exif(segment) or _is_xmp(segment):
            parts.append(segment)
        at += len(segment)
    raise ImageUnreadable(f"the JPEG picture's header has more than {MOST_SEGMENTS} segments")


def _is_exif(segment: bytes) -> bool:
    return segment[1] == EXIF_OR_XMP and segment.startswith(EXIF, 4)


def _is_xmp(segment: bytes) -> bool:
    return segment[1] == EXIF_OR_XMP and segment.startswith(XMP, 4)
