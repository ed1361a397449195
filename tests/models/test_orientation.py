"""The orientation of real files of every kind, against Pillow's own reading of them."""

import struct
from io import BytesIO

import pytest
from PIL import Image, PngImagePlugin
from support.hostile import encode

from models.orientation import TAG, orientation_of

PICTURE = Image.new("RGB", (9, 7), "red")


def exif(orientation: int, endian: str = "<") -> bytes:
    tags = Image.Exif()
    tags.endian = endian
    tags[TAG] = orientation
    tags[0x010F] = "a camera's maker"
    return tags.tobytes()


def both_readings(data: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(data)) as image:
        return orientation_of(image.info), image.getexif().get(TAG, 1)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_read_as_pillow_reads_it(kind: str, orientation: int, endian: str) -> None:
    assert both_readings(encode(PICTURE, kind, exif=exif(orientation, endian))) == (orientation, orientation)


@pytest.mark.parametrize("form", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_without_exif_xmp_counts(kind: str, form: str) -> None:
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{form}</x:xmpmeta>"
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp)
        data = encode(PICTURE, kind, pnginfo=text)
    else:
        data = encode(PICTURE, kind, xmp=xmp.encode())
    assert both_readings(data) == (6, 6)


def test_exif_that_imagemagick_wrote_into_a_png_as_text_is_read() -> None:
    text = PngImagePlugin.PngInfo()
    body = exif(8).hex()
    text.add_text("Raw profile type exif", f"\nexif\n{len(body) // 2:8}\n{body[:72]}\n{body[72:]}\n")
    assert both_readings(encode(PICTURE, "PNG", pnginfo=text)) == (8, 8)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    assert orientation_of({"exif": exif(orientation)}) == 1


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"XX*\0\x08\0\0\0\1\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0" + struct.pack("<IHHHI", 8, 1, TAG, 3, 1),
        b"II*\0" + struct.pack("<IHHHII", 8, 1, TAG, 5, 1, 6),
        b"II*\0" + struct.pack("<IHHHII", 8, 1, TAG, 3, 2, 6),
    ],
)
def test_damaged_exif_is_upright(damaged: bytes) -> None:
    assert orientation_of({"exif": damaged}) == 1
    assert orientation_of({"Raw profile type exif": "no hexadecimal\n\n\nzz"}) == 1
