"""What is left of a TIFF file before Pillow reads it."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from support.hostile import SHORT, encode, tiff_of, tiff_pixels

from models.errors import ImageUnreadable
from models.preprocess import prepare
from models.spec import Preprocessing
from models.tiff import PIXEL_TAGS, first_page, has_more_pages

SMALL = Preprocessing(height=24, width=24, resize=32)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_the_pixels_stay_and_all_else_goes(compression: str, big: bool) -> None:
    more = TiffImagePlugin.ImageFileDirectory_v2()
    more[270] = "a description"
    more[700] = b"<x:xmpmeta/>" * 100
    options = {"compression": compression, "big_tiff": big, "tiffinfo": more, "dpi": (300, 300)}
    data = encode(PICTURE, "TIFF", **options)
    page = first_page(data)
    assert len(page) == len(data)
    with Image.open(BytesIO(data)) as before, Image.open(BytesIO(page)) as after:
        assert 270 in before.tag_v2  # type: ignore[attr-defined]
        assert set(after.tag_v2) <= PIXEL_TAGS  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(before), np.asarray(after))


def test_of_several_pages_the_first_stays() -> None:
    other = Image.new("RGB", PICTURE.size)
    data = encode(PICTURE, "TIFF", save_all=True, append_images=[other, other])
    page = first_page(data)
    assert has_more_pages(data)
    assert not has_more_pages(page)
    assert not has_more_pages(encode(PICTURE, "TIFF"))
    assert np.array_equal(prepare(data, SMALL), prepare(encode(PICTURE, "TIFF"), SMALL))


def test_an_orientation_that_only_its_xmp_claims_does_not_turn_it() -> None:
    """TIFF has a tag of its own for that."""
    more = TiffImagePlugin.ImageFileDirectory_v2()
    more[700] = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert np.array_equal(prepare(encode(PICTURE, "TIFF", tiffinfo=more), SMALL), prepare(encode(PICTURE), SMALL))


@pytest.mark.parametrize("compression", ["lzma", "zstd"])
def test_a_compression_that_is_not_read_is_named_with_those_that_are(compression: str) -> None:
    with pytest.raises(ImageUnreadable, match=r"is not read, only none, CCITT.*LZW.*deflate"):
        prepare(encode(PICTURE, "TIFF", compression=compression), SMALL)


@pytest.mark.parametrize(
    "data",
    [
        b"II*\0",
        b"II*\0\x04\0\0\0",
        b"II+\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0" + struct.pack("<IH", 8, 3),
        b"MM\0*" + struct.pack(">IH", 8, 3) + bytes(30),
        b"II+\0\x08\0\0\0" + struct.pack("<QQ", 2**63 + 5, 1),
        tiff_of([*tiff_pixels(), (322, SHORT, 0, 0)]),
        tiff_of([*tiff_pixels(), (322, 16, 1, 2**31)]),
        tiff_of([*tiff_pixels(), (259, 12, 1, 0)]),
    ],
)
def test_a_damaged_directory_is_refused(data: bytes) -> None:
    with pytest.raises(ImageUnreadable, match="damaged or incomplete"):
        first_page(data)
