"""A JPEG without what programs leave in its header is the same picture."""

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.hostile import encode, jpeg_segment

from models.errors import ImageUnreadable
from models.jpeg import bare_jpeg
from models.orientation import TAG, orientation_of

NOISE = Image.effect_noise((61, 43), 90).convert("RGB")
XMP = b"http://ns.adobe.com/xap/1.0/\0" + b'<x:xmpmeta tiff:Orientation="8"/>'


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[TAG] = orientation
    return exif.tobytes()


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True, "subsampling": "4:2:0"},
        {"keep_rgb": True},
        {"restart_marker_blocks": 3},
        {"exif": turned(6)},
        {"xmp": XMP},
        {"comment": b"made by hand", "icc_profile": bytes(100_000)},
    ],
)
def test_pixels_colours_and_orientation_stay(mode: str, options: dict[str, Any]) -> None:
    data = encode(NOISE.convert(mode), "JPEG", **options)
    whole, bare = Image.open(BytesIO(data)), Image.open(BytesIO(bare_jpeg(data)))
    assert (bare.mode, orientation_of(bare.info)) == (whole.mode, orientation_of(whole.info))
    assert np.array_equal(np.asarray(bare), np.asarray(whole))


def test_what_says_nothing_of_the_pixels_is_left_out() -> None:
    plain = encode(NOISE, "JPEG")
    segments = [jpeg_segment(bytes(9_000), marker) for marker in (0xE2, 0xED, 0xFE)]
    assert bare_jpeg(with_segments(plain, *segments)) == plain
    assert bare_jpeg(with_segments(plain, b"junk", b"\xff" * 9)) == plain


@pytest.mark.parametrize(
    ("segment", "count", "reason"),
    [
        (jpeg_segment(b"Exif\0\0" + bytes(60_000)), 5, "more than 256 KiB of EXIF data"),
        (jpeg_segment(bytes(65) * 500, 0xDB), 3, "more than 64 KiB of tables"),
        (jpeg_segment(b"", 0xFE), 5_000, "more than 4096 segments"),
        (struct.pack(">BBH", 0xFF, 0xFE, 1), 1, "damaged or incomplete"),
    ],
)
def test_a_header_that_no_camera_writes_is_refused(segment: bytes, count: int, reason: str) -> None:
    with pytest.raises(ImageUnreadable, match=reason):
        bare_jpeg(with_segments(encode(NOISE, "JPEG"), segment * count))


@pytest.mark.parametrize("length", [2, 3, 5, 20, 300])
def test_a_file_that_ends_in_its_header_stays_one(length: int) -> None:
    data = encode(NOISE, "JPEG")
    assert data.startswith(bare_jpeg(data[:length]))
