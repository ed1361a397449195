"""What a header declares is what the decoder finds, in every format; and limits of cost hold."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from support.hostile import encode

from models.cost import COSTLY_PIXELS, USUAL_SCANS, decoding_cost
from models.errors import ImageTooCostly, ImageUnreadable
from models.image_file import open_image
from models.preprocess import MAX_PIXELS, MAX_SIDE

SIZES = ((60, 40), (301, 199), (1, 700))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0" + bytes(20)}),
        ("TIFF", {"big_tiff": True}),
    ],
)
def test_the_cost_of_what_is_decoded_whole_is_its_pixels(kind: str, options: dict[str, Any]) -> None:
    for size in SIZES:
        content = encode(Image.effect_noise(size, 90).convert("RGB"), kind, **options)
        opened = Image.open(BytesIO(content))
        assert decoding_cost(content) == opened.width * opened.height


def test_a_frame_beyond_its_screen_counts() -> None:
    """Pillow makes the picture as large as both."""
    gif = bytearray(encode(Image.new("L", (60, 40), 7), "GIF"))
    gif[6:10] = b"\x01\0\x01\0"
    assert decoding_cost(bytes(gif)) == 60 * 40


def test_a_baseline_jpeg_costs_an_eighth_and_a_progressive_one_by_its_scans() -> None:
    noise = Image.effect_noise((1600, 1000), 90).convert("RGB")
    pixels = 1600 * 1000
    assert decoding_cost(encode(noise, "JPEG", exif=b"Exif\0\0" + bytes(4000))) == pixels // 8
    progressive = encode(noise, "JPEG", progressive=True)
    assert decoding_cost(progressive) == pixels
    last = progressive.rindex(b"\xff\xda")
    repeated = progressive[:-2] + progressive[last:-2] * 30 + progressive[-2:]
    assert decoding_cost(repeated) > 3 * pixels


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0\1", b"GIF89a"])
def test_what_has_no_size_costs_nothing(content: bytes) -> None:
    assert decoding_cost(content) == 0


def test_the_decoder_keeps_to_a_limit_of_cost_whatever_the_gateway_was_told() -> None:
    costly = encode(Image.new("L", (4000, 2001)), "PNG")
    assert decoding_cost(costly) > COSTLY_PIXELS
    with pytest.raises(ImageTooCostly):
        open_image(costly, max_pixels=MAX_PIXELS, max_side=MAX_SIDE, max_cost=COSTLY_PIXELS)


def test_scans_are_limited_by_the_pixels_that_each_of_them_passes() -> None:
    large = encode(Image.new("L", (16_000, 3_900), 128), "JPEG", progressive=True)
    last = large.rindex(b"\xff\xda")
    repeated = large[:-2] + large[last:-2] * (USUAL_SCANS + 1) + large[-2:]
    open_image(large, max_pixels=MAX_PIXELS, max_side=MAX_SIDE)
    with pytest.raises(ImageUnreadable, match="scans of 16000x3900"):
        open_image(repeated, max_pixels=MAX_PIXELS, max_side=MAX_SIDE)
