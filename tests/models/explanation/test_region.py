"""What the network sees of an image, in pixels of the image as people see it."""

import io

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageTooManyPixels, ImageUnreadable
from models.preprocess import prepare, region_of, upright_size
from models.spec import Preprocessing


def encoded(size: tuple[int, int], form: str, orientation: int = 1) -> bytes:
    image = Image.new("RGB", size, "red")
    exif = image.getexif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, form, **({} if form == "GIF" else {"exif": exif}))
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_size_is_that_of_the_upright_image_as_it_is_prepared(form: str, orientation: int) -> None:
    size = upright_size(encoded((60, 30), form, orientation))
    assert size == ((30, 60) if orientation == 6 and form != "GIF" else (60, 30))


def test_a_gifs_frame_may_be_larger_than_its_screen() -> None:
    content = bytearray(encoded((60, 30), "GIF"))
    content[6:10] = (10).to_bytes(2, "little") * 2
    assert upright_size(bytes(content)) == (60, 30)


def test_the_region_is_what_prepare_cuts_out() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    view = Preprocessing(50, 50, 60)
    left, top, right, bottom = region_of((300, 100), view)
    pixels[round(top) : round(bottom), round(left) : round(right)] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    seen = prepare(buffer.getvalue(), view)
    assert (seen[2:-2, 2:-2] == 255).all()
    assert (right - left, bottom - top) == pytest.approx((250 / 3, 250 / 3))


def test_what_cannot_be_prepared_has_no_size() -> None:
    with pytest.raises(ImageUnreadable):
        upright_size(b"no image")
    with pytest.raises(ImageTooManyPixels):
        upright_size(encoded((60, 30), "PNG"), max_pixels=100)
