import io

import numpy as np
import pytest
from PIL import Image

from models.dataset.picture import look
from models.errors import ImageTooManyPixels, ImageUnreadable


def hamming(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_each_format_is_described(draw, kind):
    picture, thumbnail = look(draw(size=(300, 200), kind=kind))
    assert (picture.format, picture.mode, picture.width, picture.height) == (kind, "RGB", 300, 200)
    assert picture.frames == 1
    with Image.open(io.BytesIO(thumbnail)) as small:
        assert (small.format, small.size) == ("WEBP", (160, 107))


def test_small_pictures_are_not_blown_up(draw):
    _, thumbnail = look(draw(size=(8, 9)))
    with Image.open(io.BytesIO(thumbnail)) as small:
        assert small.size == (8, 9)


def test_sides_are_those_of_the_upright_picture(draw):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, thumbnail = look(draw(size=(300, 200), exif=exif))
    assert (picture.width, picture.height) == (200, 300)
    with Image.open(io.BytesIO(thumbnail)) as small:
        assert small.size == (107, 160)


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("1", "PNG")]
)
def test_colour_modes_are_told_and_taken(draw, mode, kind):
    picture, _ = look(draw(kind=kind, mode=mode))
    assert picture.mode == mode


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1)])
def test_extreme_shapes_are_taken(draw, size):
    picture, _ = look(draw(size=size, kind="PNG"))
    assert (picture.width, picture.height) == size


def test_the_frames_of_an_animation_are_counted(draw):
    frames = [Image.open(io.BytesIO(draw(seed))) for seed in range(3)]
    picture, _ = look(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100))
    assert picture.frames == 3


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_whether_there_are_several_frames_or_pages_is_told_without_counting(draw, kind):
    frames = [Image.open(io.BytesIO(draw(seed))) for seed in range(3)]
    picture, _ = look(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert picture.frames == 2
    assert look(encoded(frames[0], kind))[0].frames == 1


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_sides_are_upright_in_the_newer_formats_too(draw, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, _ = look(draw(size=(300, 200), kind=kind, exif=exif))
    assert (picture.width, picture.height) == (200, 300)


def test_a_picture_cut_short_is_unreadable(draw):
    content = draw(size=(400, 400))
    with pytest.raises(ImageUnreadable):
        look(content[: len(content) // 2])


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_no_picture_is_unreadable(content):
    with pytest.raises(ImageUnreadable):
        look(content)


def test_too_many_pixels_are_refused_undecoded():
    bomb = encoded(Image.new("1", (12_000, 12_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(ImageTooManyPixels):
        look(bomb)
    with pytest.raises(ImageTooManyPixels):
        look(encoded(Image.new("L", (20, 20)), "PNG"), max_pixels=399)


def test_the_hash_survives_resizing_and_encoding_and_tells_scenes_apart(draw):
    hashes = []
    for seed in range(12):
        scene = Image.open(io.BytesIO(draw(seed, size=(320, 240), kind="PNG")))
        original = look(encoded(scene, "PNG"))[0].phash
        assert hamming(original, look(encoded(scene, quality=40))[0].phash) <= 4
        assert hamming(original, look(encoded(scene.resize((96, 80)), "WEBP"))[0].phash) <= 4
        hashes.append(original)
    distances = [hamming(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > 8


def test_the_hash_is_of_the_lowest_frequencies():
    """Against a transform written out as its definition."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
    pixels = np.asarray(image, dtype=float)
    place = np.arange(32)
    frequencies = [
        (
            pixels * np.cos(np.pi * (2 * place[:, None] + 1) * v / 64) * np.cos(np.pi * (2 * place + 1) * u / 64)
        ).sum()
        for v in range(8)
        for u in range(8)
    ]
    middle = np.median(frequencies[1:])
    expected = "".join("1" if f > middle else "0" for f in frequencies)
    assert look(encoded(image, "PNG"))[0].phash == f"{int(expected, 2):016x}"
