"""Image files of some megabytes that are made to keep a decoder busy, or its memory full."""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

from PIL import Image

ORIENTATION, BITS_PER_SAMPLE = 0x0112, 258
RATIONAL, LONG, SHORT, UNDEFINED = 5, 4, 3, 7


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def red(kind: str) -> bytes:
    return encode(Image.new("RGB", (60, 40), "red"), kind)


def exif_of_many_values(count: int, tag: int = ORIENTATION) -> bytes:
    """EXIF whose one tag has that many fractions: 8 bytes each, half a kilobyte as a Python object."""
    head = b"II*\0" + struct.pack("<IHHHIII", 8, 1, tag, RATIONAL, count, 26, 0)
    return head + struct.pack("<II", 1, 3) * count


def jpeg_of(segments: bytes) -> bytes:
    data = red("JPEG")
    behind = 4 + int.from_bytes(data[4:6], "big")
    return data[:2] + segments + data[behind:]


def jpeg_segment(content: bytes, marker: int = 0xE1) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_exif(exif: bytes) -> bytes:
    parts = (exif[at : at + 60_000] for at in range(0, len(exif), 60_000))
    return jpeg_of(b"".join(jpeg_segment(b"Exif\0\0" + part) for part in parts))


def jpeg_of_photoshop(settings: int) -> bytes:
    """Segments full of Photoshop's settings, each of no bytes."""
    setting = b"8BIM" + struct.pack(">HHI", 7, 0, 0)
    segment = jpeg_segment(b"Photoshop 3.0\0" + setting * 5_000, 0xED)
    return jpeg_of(segment * (settings // 5_000))


def jpeg_padded_in_its_pixels(count: int) -> bytes:
    """The second half of its pixels begins with that many bytes that a decoder has to skip."""
    data = encode(Image.effect_noise((60, 40), 90), "JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:second] + b"\xff" * count + data[second:]


def png_of(chunks: bytes) -> bytes:
    data = red("PNG")
    before_pixels = data.index(b"IDAT") - 4
    return data[:before_pixels] + chunks + data[before_pixels:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_pixels_in_bytes(count: int) -> bytes:
    """Behind the picture's own pixels, that many more chunks of one byte."""
    data = red("PNG")
    return data[:-12] + png_chunk(b"IDAT", b"x") * count + data[-12:]


def gif_of(blocks: bytes) -> bytes:
    """Blocks before the first frame."""
    data = encode(Image.new("L", (60, 40), 7), "GIF")
    first = data.index(b",")
    return data[:first] + blocks + data[first:]


def gif_of_many_frames(count: int) -> bytes:
    data = encode(Image.new("L", (60, 40), 7), "GIF")
    return data[:-1] + (b"," + bytes([0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 1, 0, 0])) * count + b";"


def tiff_of(tags: list[tuple[int, int, int, int]], behind: bytes = b"", following: int = 0) -> bytes:
    """A TIFF whose directory follows its header; `tags` are number, type, count, and value or where values lie."""
    directory = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + struct.pack("<I", following) + behind


def tiff_pixels(width: int = 60, height: int = 40) -> list[tuple[int, int, int, int]]:
    """The tags of a grey picture in one strip, which lies at the file's beginning."""
    return [
        (256, LONG, 1, width), (257, LONG, 1, height), (BITS_PER_SAMPLE, SHORT, 1, 8), (262, SHORT, 1, 1),
        (273, LONG, 1, 0), (277, SHORT, 1, 1), (278, LONG, 1, height), (279, LONG, 1, width * height),
    ]  # fmt: skip


def tiff_of_many_values(tag: int, kind: int, count: int, size: int) -> bytes:
    tags = [*(known for known in tiff_pixels() if known[0] != tag), (tag, kind, count, 256)]
    return tiff_of(tags).ljust(256, b"\0") + b"\1" * (count * size)


def tiff_of_many_pages(count: int) -> bytes:
    """Each page's directory is empty but for its width and the place of the next."""
    first = tiff_of(tiff_pixels(), following=4096).ljust(4096, b"\0")
    pages = (struct.pack("<HHHIII", 1, 256, SHORT, 1, 9, 4096 + 18 * (number + 1)) for number in range(count))
    return first + b"".join(pages) + bytes(6)


def tiff_of_one_value_in_every_tag(size: int) -> bytes:
    """Every tag that there can be, all with the same values."""
    known = {tag for tag, *_ in tiff_pixels()}
    others = [(tag, UNDEFINED, size, 800_000) for tag in range(60_000) if tag not in known]
    return tiff_of([*tiff_pixels(), *others]).ljust(800_000, b"\0") + bytes(size)


def tiff_of_giant_tiles() -> bytes:
    tags = [tag for tag in tiff_pixels() if tag[0] not in (273, 278, 279)]
    tiles = [
        (259, SHORT, 1, 5),
        (322, LONG, 1, 60_000),
        (323, LONG, 1, 60_000),
        (324, LONG, 1, 8),
        (325, LONG, 1, 64),
    ]
    return tiff_of([*tags, *tiles], bytes(100))


def avif_of_many_values(count: int) -> bytes:
    """Pillow refuses to write such an orientation, so the tag is given its number afterwards."""
    other = 0x0128
    data = encode(Image.new("RGB", (60, 40), "red"), "AVIF", exif=exif_of_many_values(count, other))
    head = b"II*\0" + struct.pack("<IH", 8, 1)
    return data.replace(head + struct.pack("<H", other), head + struct.pack("<H", ORIENTATION))


def bmp_of_run_lengths(side: int, body: bytes, bits: int = 8) -> bytes:
    """Its palette's first sixteen colours are greens."""
    palette = b"".join(bytes([n, 9, 0, 0]) for n in range(16))
    begin = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, 1 if bits == 8 else 2, 0, 0, 0, 16, 0)
    return b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + header + palette + body


ATTACKS: Mapping[str, Callable[[], bytes]] = {
    "JPEG, EXIF of a million fractions": lambda: jpeg_exif(exif_of_many_values(1_000_000)),
    "JPEG, a fraction of a million as its resolution": lambda: jpeg_exif(exif_of_many_values(1_000_000, 0x0128)),
    "JPEG, EXIF in a million segments": lambda: jpeg_of(jpeg_segment(b"Exif\0\0x") * 1_000_000),
    "JPEG, bytes of no segment": lambda: jpeg_of(jpeg_segment(b"") + b"\1" * 12_000_000),
    "JPEG, padding": lambda: jpeg_of(jpeg_segment(b"") + b"\xff" * 12_000_000),
    "JPEG, padding between its scans": lambda: jpeg_padded_in_its_pixels(30_000_000),
    "JPEG, a million tables": lambda: jpeg_of(jpeg_segment(bytes(65) * 1_000, 0xDB) * 400),
    "JPEG, millions of settings of Photoshop": lambda: jpeg_of_photoshop(2_500_000),
    "PNG, EXIF of a million fractions": lambda: png_of(png_chunk(b"eXIf", exif_of_many_values(1_000_000))),
    "PNG, a million empty chunks": lambda: png_of(png_chunk(b"abCd", b"") * 1_000_000),
    "PNG, colour profiles that inflate": lambda: png_of(
        png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1_000_000))) * 10_000
    ),
    "PNG, pixels in chunks of a byte": lambda: png_pixels_in_bytes(1_000_000),
    "WEBP, EXIF of a million fractions": lambda: encode(
        Image.new("RGB", (60, 40), "red"), "WEBP", exif=exif_of_many_values(1_000_000)
    ),
    "GIF, a comment in blocks of a byte": lambda: gif_of(b"!\xfe" + b"\1x" * 6_000_000 + b"\0"),
    "GIF, a million empty extensions": lambda: gif_of(b"!\xfe\0" * 4_000_000),
    "GIF, extensions of many blocks": lambda: gif_of((b"!\xfe" + b"\1x" * 5_000 + b"\0") * 1_200),
    "GIF, bytes of no block": lambda: gif_of(b"\1" * 12_000_000),
    "GIF, a million frames": lambda: gif_of_many_frames(1_000_000),
    "TIFF, a million fractions": lambda: tiff_of_many_values(BITS_PER_SAMPLE, RATIONAL, 1_000_000, 8),
    "TIFF, a million fractions as its orientation": lambda: tiff_of_many_values(
        ORIENTATION, RATIONAL, 1_000_000, 8
    ),
    "TIFF, a million strips": lambda: tiff_of_many_values(273, LONG, 3_000_000, 4),
    "TIFF, half a million pages": lambda: tiff_of_many_pages(500_000),
    "TIFF, the same values in every tag": lambda: tiff_of_one_value_in_every_tag(200_000),
    "TIFF, giant tiles": tiff_of_giant_tiles,
    "AVIF, EXIF of a million fractions": lambda: avif_of_many_values(1_000_000),
    "AVIF, a million boxes": lambda: red("AVIF") + b"\0\0\0\x08free" * 1_000_000,
    "BMP, run lengths of one pixel": lambda: bmp_of_run_lengths(8_000, b"\x01\x11\0\0" * 8_000, bits=4),
}


def large_pictures() -> Iterator[tuple[str, bytes]]:
    """Sound pictures of nearly as many pixels as are allowed, each in a file of a few kilobytes."""
    side = 7_990
    for mode, kind, options in (
        ("RGBA", "PNG", {"compress_level": 1}),
        ("P", "GIF", {"transparency": 0}),
        ("CMYK", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw"}),
    ):
        yield f"{kind} {mode}", encode(Image.new(mode, (side, side)), kind, **options)
    half = 5_600
    for mode, options in (("RGB", {"subsampling": "4:4:4"}), ("RGBA", {})):
        yield f"AVIF {mode}", encode(Image.new(mode, (half, half)), "AVIF", speed=10, **options)
