"""What may be given as an image, and what becomes of it."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.colours import picture

from fovea_client.image import UNTYPED, is_many, media_type_of, source_of
from fovea_client.png import encode_png
from models.formats import media_type


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_pixels_come_back_as_they_were(height: int, width: int, is_grey: bool, seed: int) -> None:
    shape = (height, width) if is_grey else (height, width, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.mode == ("L" if is_grey else "RGB")
        assert (np.asarray(image) == pixels).all()


def test_an_array_may_be_a_view_in_any_order() -> None:
    pixels = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for view in (pixels[::-1], pixels[:, ::2], pixels.transpose(1, 0, 2), np.asfortranarray(pixels)):
        with Image.open(io.BytesIO(source_of(view).load())) as image:
            assert (np.asarray(image) == view).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            np.zeros((3, 20, 20), np.uint8),
            r"uint8 \[3, 20, 20\]; with its channels first it needs array.transpose",
        ),
        (np.zeros((20, 20, 3), np.float32), r"float32 \[20, 20, 3\]; values from 0 to 1 need"),
        (np.zeros((2, 20, 20, 3), np.uint8), r"give a list for several images: list\(array\)"),
        (np.zeros((20, 20, 4), np.uint8), r"not uint8 \[20, 20, 4\]$"),
        (np.zeros((0, 20, 3), np.uint8), r"not uint8 \[0, 20, 3\]$"),
    ],
)
def test_what_an_array_of_another_kind_means_is_not_guessed(array: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        source_of(array)


def test_how_a_camera_was_held_goes_with_a_pil_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    with Image.open(buffer) as image, Image.open(io.BytesIO(source_of(image).load())) as sent:
        assert sent.format == "PNG"
        assert sent.getexif()[0x0112] == 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "F", "I", "I;16", "LAB"])
def test_every_mode_of_pillow_can_be_sent(mode: str) -> None:
    image = Image.new(mode, (8, 8))
    assert media_type_of(source_of(image).load()) == "image/png"


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (3, TypeError, "int is no image; expected a path"),
        (None, TypeError, "NoneType is no image"),
        (io.StringIO("text"), TypeError, "open the file in binary mode, 'rb'"),
        ("https://example.org/shark.jpg", ValueError, "is a URL"),
    ],
)
def test_what_is_no_image_is_said_to_be_none(given: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        source_of(given)


def test_one_image_is_told_from_several(tmp_path: Path) -> None:
    one = [
        "a.png",
        tmp_path,
        b"",
        bytearray(),
        memoryview(b""),
        io.BytesIO(),
        Image.new("L", (1, 1)),
        np.zeros((2, 2)),
    ]
    assert [is_many(given) for given in one] == [False] * len(one)
    several: list[Any] = [[], (), ["a.png"], (path for path in ["a.png"]), {"a.png"}, dict.fromkeys(["a"]).keys()]
    assert [is_many(given) for given in several] == [True] * len(several)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_the_media_type_is_that_of_the_bytes_as_the_service_has_it(form: str) -> None:
    image = picture("red", form=form)
    assert media_type_of(image) == media_type(image) != UNTYPED


@pytest.mark.parametrize("content", [b"", b'{"images": []}', b"PK\x03\x04"])
def test_what_is_no_image_has_no_type(content: bytes) -> None:
    assert media_type_of(content) == UNTYPED


def test_neither_pillow_nor_numpy_is_imported_by_it() -> None:
    code = (
        "import sys, fovea_client; from fovea_client.image import source_of; source_of(b'x')\n"
        "others = ('PIL', 'numpy', 'IPython', 'cli', 'models', 'system')\n"
        "print([name for name in others if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
