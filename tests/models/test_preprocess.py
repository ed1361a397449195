"""Real files of every kind that a user sends, made by Pillow, and some that an attacker does."""

import struct
import time
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from support.hostile import bmp_of_run_lengths, encode

from models.errors import ImageError, ImageTooManyPixels, ImageUnreadable
from models.preprocess import prepare
from models.spec import Preprocessing

SMALL = Preprocessing(height=24, width=24, resize=32)
ORIENTATIONS = range(1, 9)
# How a camera stores an upright picture under each orientation.
STORE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def photograph(index: int = 0) -> Image.Image:
    return Image.fromarray(load_sample_images().images[index])


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def largest_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def mean_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def two_steps(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The textbook: decode in full, turn, resize the whole, cut the centre out."""
    upright = ImageOps.exif_transpose(image).convert("RGB")
    filters = {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    resampling = filters[preprocessing.interpolation]
    size = (preprocessing.width, preprocessing.height)
    if preprocessing.fit == "squash":
        return np.asarray(upright.resize(size, resampling))
    shorter = min(upright.size)
    resized = upright.resize(
        (
            round(preprocessing.resize * upright.width / shorter),
            round(preprocessing.resize * upright.height / shorter),
        ),
        resampling,
    )
    left, top = (resized.width - size[0]) // 2, (resized.height - size[1]) // 2
    return np.asarray(resized.crop((left, top, left + size[0], top + size[1])))


class TestGeometry:
    @pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
    @pytest.mark.parametrize("fit", ["crop", "squash"])
    @pytest.mark.parametrize("index", [0, 1])
    def test_one_resize_gives_what_resize_and_crop_give(self, index: int, fit: Any, interpolation: Any) -> None:
        preprocessing = Preprocessing(fit=fit, interpolation=interpolation)
        image = photograph(index)
        assert largest_difference(prepare(encode(image), preprocessing), two_steps(image, preprocessing)) <= 2

    @settings(max_examples=150, deadline=None)
    @given(
        width=st.integers(1, 90),
        height=st.integers(1, 90),
        orientation=st.sampled_from(ORIENTATIONS),
        view=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9)),
        fit=st.sampled_from(["crop", "squash"]),
    )
    def test_any_size_and_orientation_gives_the_textbook_view(
        self, width: int, height: int, orientation: int, view: tuple[int, int, int], fit: Any
    ) -> None:
        preprocessing = Preprocessing(height=view[0], width=view[1], resize=max(view[:2]) + view[2], fit=fit)
        image = noise(width, height, seed=width * 100 + height)
        data = encode(image, exif=exif(orientation))
        pixels = prepare(data, preprocessing)
        assert pixels.shape == (view[0], view[1], 3)
        assert largest_difference(pixels, two_steps(Image.open(BytesIO(data)), preprocessing)) <= 2

    def test_a_thread_of_a_picture_is_not_blown_up_to_gigabytes(self) -> None:
        started = time.thread_time()
        pixels = prepare(encode(Image.new("RGB", (1, 16_000), "red")), Preprocessing())
        assert pixels.shape == (224, 224, 3)
        assert (pixels == (255, 0, 0)).all()
        assert time.thread_time() - started < 2

    def test_the_result_can_be_written_to_and_repeats_exactly(self) -> None:
        data = encode(photograph(), "JPEG")
        first, second = prepare(data, SMALL), prepare(data, SMALL)
        assert first.dtype == np.uint8
        assert first.flags.c_contiguous
        assert first.flags.writeable
        assert (first == second).all()

    def test_a_file_and_its_bytes_give_the_same(self, tmp_path: Path) -> None:
        data = encode(photograph(), "JPEG")
        (tmp_path / "china.jpg").write_bytes(data)
        assert (prepare(tmp_path / "china.jpg", SMALL) == prepare(data, SMALL)).all()


class TestOrientation:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF LZW", "AVIF"])
    @pytest.mark.parametrize("fit", ["crop", "squash"])
    def test_pictures_stand_upright(self, orientation: int, kind: str, fit: Any) -> None:
        preprocessing = Preprocessing(height=20, width=28, resize=33, fit=fit)
        upright = photograph().resize((161, 90))
        stored = upright.transpose(STORE[orientation]) if orientation in STORE else upright
        options = {"WEBP": {"lossless": True}, "TIFF LZW": {"compression": "tiff_lzw"}, "AVIF": {"quality": 95}}
        data = encode(stored, kind.split()[0], exif=exif(orientation), **options.get(kind, {}))
        expected, pixels = prepare(encode(upright), preprocessing), prepare(data, preprocessing)
        if kind == "AVIF":
            assert mean_difference(pixels, expected) < 3
        else:
            assert largest_difference(pixels, expected) <= 1

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("fit", ["crop", "squash"])
    def test_a_large_jpeg_stands_upright(self, orientation: int, fit: Any) -> None:
        preprocessing = Preprocessing(height=60, width=200, resize=210, fit=fit)
        upright = photograph().resize((1700, 1130), Image.Resampling.BICUBIC)
        stored = upright.transpose(STORE[orientation]) if orientation in STORE else upright
        data = encode(stored, "JPEG", exif=exif(orientation), quality=95)
        assert mean_difference(prepare(data, preprocessing), two_steps(upright, preprocessing)) < 2

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_is_ignored(self, orientation: int) -> None:
        image = photograph()
        assert (prepare(encode(image, exif=exif(orientation)), SMALL) == prepare(encode(image), SMALL)).all()

    @pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
    def test_damaged_metadata_does_not_harm_a_sound_picture(self) -> None:
        image = photograph()
        data = encode(image, "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\x12\x01" * 9)
        assert (prepare(data, SMALL) == prepare(encode(image, "JPEG"), SMALL)).all()


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.full((40, 50), 0xC8FF, np.uint16))


def palette(transparency: int | bytes | None = None) -> bytes:
    image = Image.new("P", (50, 40), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return encode(image) if transparency is None else encode(image, transparency=transparency)


def of_palette(kind: str, **options: Any) -> bytes:
    image = Image.new("P", (50, 40), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return encode(image, kind, **options)


def big_endian_sixteen_bit() -> Image.Image:
    return Image.frombytes("I;16B", (50, 40), b"\xc8\xff" * 2000)


def tiff_of_sixteen_bit_colours() -> bytes:
    """Written by hand, for Pillow has no such mode."""
    width, height = 50, 40
    pixels = struct.pack("<3H", 0xC8FF, 0x64FF, 0x32FF) * (width * height)
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + 2 + 12 * 9 + 4), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 + 12 * 9 + 4 + 6), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<3H", 16, 16, 16) + pixels


def bmp_with_alpha() -> bytes:
    """With the fifth version's header, which says which bits are the alpha; Pillow writes only the third's."""
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII4I", 124, 50, 40, 1, 32, 3, 0, 0, 0, 0, 0, *masks) + bytes(124 - 56)
    pixels = bytes([0, 0, 255, 128]) * (50 * 40)
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels), 0, 0, 138) + header + pixels


MODES: dict[str, tuple[Callable[[], bytes], tuple[int, int, int]]] = {
    "RGB": (lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50))), (200, 100, 50)),
    "L": (lambda: encode(Image.new("L", (50, 40), 77)), (77, 77, 77)),
    "1": (lambda: encode(Image.new("1", (50, 40), 1)), (255, 255, 255)),
    "I;16": (lambda: encode(sixteen_bit()), (200, 200, 200)),
    "P": (palette, (200, 100, 50)),
    "P, one colour transparent": (lambda: palette(transparency=1), (255, 255, 255)),
    "P, half transparent": (lambda: palette(transparency=b"\xff\x80"), (227, 177, 152)),
    "L, one level transparent": (lambda: encode(Image.new("L", (50, 40), 7), transparency=7), (255, 255, 255)),
    "1, black transparent": (lambda: encode(Image.new("1", (50, 40), 0), transparency=0), (255, 255, 255)),
    "RGB, one colour transparent": (
        lambda: encode(Image.new("RGB", (50, 40), (1, 2, 3)), transparency=(1, 2, 3)),
        (255, 255, 255),
    ),
    "LA": (lambda: encode(Image.new("LA", (50, 40), (0, 128))), (127, 127, 127)),
    "RGBA": (lambda: encode(Image.new("RGBA", (50, 40), (255, 0, 0, 128))), (255, 127, 127)),
    "RGBA, clear": (lambda: encode(Image.new("RGBA", (50, 40), (0, 0, 0, 0))), (255, 255, 255)),
    "WebP": (lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "WEBP", lossless=True), (200, 100, 50)),
    "WebP, alpha": (
        lambda: encode(Image.new("RGBA", (50, 40), (255, 0, 0, 128)), "WEBP", lossless=True),
        (255, 127, 127),
    ),
    "JPEG": (lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "JPEG", quality=95), (200, 100, 50)),
    "JPEG, grey": (lambda: encode(Image.new("L", (50, 40), 77), "JPEG", quality=95), (77, 77, 77)),
    "JPEG, stored as RGB": (
        lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "JPEG", quality=95, keep_rgb=True),
        (200, 100, 50),
    ),
    "JPEG, CMYK": (
        lambda: encode(Image.new("CMYK", (50, 40), (55, 155, 205, 0)), "JPEG", quality=95),
        (200, 100, 50),
    ),
    "BMP": (lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "BMP"), (200, 100, 50)),
    "BMP, grey": (lambda: encode(Image.new("L", (50, 40), 77), "BMP"), (77, 77, 77)),
    "BMP, black and white": (lambda: encode(Image.new("1", (50, 40), 1), "BMP"), (255, 255, 255)),
    "BMP, alpha": (lambda: bmp_with_alpha(), (255, 127, 127)),
    "BMP, 32 bits of which 8 mean nothing": (
        lambda: encode(Image.new("RGBA", (50, 40), (255, 0, 0, 128)), "BMP"),
        (255, 0, 0),
    ),
    "BMP, palette": (lambda: of_palette("BMP"), (200, 100, 50)),
    "BMP, run lengths": (lambda: bmp_of_run_lengths(40, b"\x28\x01\0\0" * 40), (0, 9, 1)),
    "GIF": (lambda: of_palette("GIF"), (200, 100, 50)),
    "GIF, grey": (lambda: encode(Image.new("L", (50, 40), 77), "GIF"), (77, 77, 77)),
    "GIF, transparent": (lambda: of_palette("GIF", transparency=1), (255, 255, 255)),
    "TIFF": (lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "TIFF"), (200, 100, 50)),
    "TIFF, LZW": (
        lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "TIFF", compression="tiff_lzw"),
        (200, 100, 50),
    ),
    "TIFF, JPEG inside": (
        lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "TIFF", compression="jpeg", quality=95),
        (200, 100, 50),
    ),
    "TIFF, fax": (lambda: encode(Image.new("1", (50, 40), 1), "TIFF", compression="group4"), (255, 255, 255)),
    "TIFF, big": (
        lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "TIFF", big_tiff=True),
        (200, 100, 50),
    ),
    "TIFF, CMYK": (
        lambda: encode(Image.new("CMYK", (50, 40), (55, 155, 205, 0)), "TIFF", compression="tiff_adobe_deflate"),
        (200, 100, 50),
    ),
    "TIFF, 16 bits": (lambda: encode(sixteen_bit(), "TIFF"), (200, 200, 200)),
    "TIFF, 16 bits of the other order": (lambda: encode(big_endian_sixteen_bit(), "TIFF"), (200, 200, 200)),
    "TIFF, 16 bits of each colour": (lambda: tiff_of_sixteen_bit_colours(), (200, 100, 50)),
    "TIFF, palette": (lambda: of_palette("TIFF"), (200, 100, 50)),
    "TIFF, alpha": (lambda: encode(Image.new("RGBA", (50, 40), (255, 0, 0, 128)), "TIFF"), (255, 127, 127)),
    "TIFF, grey with alpha": (lambda: encode(Image.new("LA", (50, 40), (0, 128)), "TIFF"), (127, 127, 127)),
    "TIFF, YCbCr": (lambda: encode(Image.new("YCbCr", (50, 40), (124, 86, 182)), "TIFF"), (200, 100, 50)),
    "AVIF": (lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "AVIF", quality=95), (200, 100, 50)),
    "AVIF, grey": (lambda: encode(Image.new("L", (50, 40), 77), "AVIF", quality=95), (77, 77, 77)),
    "AVIF, alpha": (
        lambda: encode(Image.new("RGBA", (50, 40), (255, 0, 0, 128)), "AVIF", quality=95, subsampling="4:4:4"),
        (255, 127, 127),
    ),
    "JPEG, progressive": (
        lambda: encode(Image.new("RGB", (50, 40), (200, 100, 50)), "JPEG", quality=95, progressive=True),
        (200, 100, 50),
    ),
}


class TestModes:
    @pytest.mark.parametrize("mode", MODES)
    def test_every_mode_becomes_rgb_of_the_right_colour(self, mode: str) -> None:
        make, colour = MODES[mode]
        pixels = prepare(make(), SMALL)
        assert pixels.shape == (24, 24, 3)
        assert np.abs(pixels.astype(int) - colour).max() <= 2

    def test_sixteen_bits_keep_the_whole_range(self) -> None:
        ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
        preprocessing = Preprocessing(height=64, width=64, resize=64)
        pixels = prepare(encode(Image.fromarray(ramp)), preprocessing)
        assert pixels.min() == 0
        assert pixels.max() == 255
        assert (pixels[..., 0] == ramp // 256).all()

    def test_colours_under_clear_pixels_do_not_bleed(self) -> None:
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[:, :32] = (0, 0, 255, 255)
        pixels[:, 32:] = (255, 0, 0, 0)  # red, and not to be seen
        prepared = prepare(encode(Image.fromarray(pixels)), Preprocessing(height=9, width=9, resize=9))
        assert (prepared[..., 0] <= prepared[..., 2]).all()

    @pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF", "TIFF", "AVIF"])
    def test_of_an_animation_the_first_frame_counts(self, kind: str) -> None:
        frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        assert Image.open(BytesIO(data)).n_frames == 2  # type: ignore[attr-defined]
        assert np.abs(prepare(data, SMALL).astype(int) - (255, 0, 0)).max() <= 3

    def test_of_a_phones_double_picture_the_first_counts(self) -> None:
        first, second = photograph(0), photograph(1)
        data = encode(first, "MPO", save_all=True, append_images=[second], quality=90)
        assert Image.open(BytesIO(data)).format == "MPO"
        assert (prepare(data, SMALL) == prepare(encode(first, "JPEG", quality=90), SMALL)).all()


class TestLargeJpegs:
    """Decoded at a reduced scale, but never below twice what the resize step makes of them."""

    preprocessing = Preprocessing(height=112, width=112, resize=128)

    def reduced_and_full(self, shorter: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image = photograph().resize((shorter * 3 // 2, shorter), Image.Resampling.BICUBIC)
        data = encode(image, "JPEG", quality=90)
        full = encode(Image.open(BytesIO(data)), compress_level=1)  # as PNG, which has no reduced scale
        return prepare(data, self.preprocessing), prepare(full, self.preprocessing)

    def test_below_four_times_the_target_nothing_is_reduced(self) -> None:
        reduced, full = self.reduced_and_full(shorter=4 * 128 - 1)
        assert (reduced == full).all()

    @pytest.mark.parametrize("times", [4, 8, 17])
    def test_a_reduced_picture_is_all_but_the_same(self, times: int) -> None:
        reduced, full = self.reduced_and_full(shorter=times * 128)
        assert 0 < mean_difference(reduced, full) < 1.5

    def test_the_window_is_not_shifted_when_the_scale_does_not_divide_the_sides(self) -> None:
        image = noise(1031, 1027)
        data = encode(image, "JPEG", quality=98)
        preprocessing = Preprocessing(height=128, width=128, resize=128)
        assert mean_difference(prepare(data, preprocessing), two_steps(image, preprocessing)) < 0.7

    def test_a_squashed_picture_keeps_twice_its_narrow_side(self) -> None:
        preprocessing = Preprocessing(height=32, width=256, fit="squash")
        image = photograph().resize((1023, 2000), Image.Resampling.BICUBIC)
        data = encode(image, "JPEG", quality=90)
        full = encode(Image.open(BytesIO(data)))
        assert (prepare(data, preprocessing) == prepare(full, preprocessing)).all()

    def test_it_saves_most_of_the_time(self) -> None:
        image = photograph().resize((4000, 2668), Image.Resampling.BICUBIC)
        data = encode(image, "JPEG", quality=85)

        def cost(work: Callable[[], Any]) -> float:
            started = time.process_time()
            work()
            return time.process_time() - started

        plain = min(cost(lambda: two_steps(Image.open(BytesIO(data)), Preprocessing())) for _ in range(3))
        ours = min(cost(lambda: prepare(data, Preprocessing())) for _ in range(3))
        assert ours < plain / 3


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("RGB", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_header(width: int, height: int) -> bytes:
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif_header(width: int, height: int, frame: tuple[int, int] | None = None) -> bytes:
    image = b"," + struct.pack("<4HB", 0, 0, *(frame or (width, height)), 0) + b"\x08\x01\x00\x00;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + image


def tiff_header(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)


def avif_header(width: int, height: int) -> bytes:
    """A small picture that claims to be a large one."""
    data = encode(Image.new("RGB", (16, 16)), "AVIF")
    return data.replace(b"ispe" + struct.pack(">III", 0, 16, 16), b"ispe" + struct.pack(">III", 0, width, height))


def many_scans(extra: int) -> bytes:
    data = encode(Image.new("L", (64, 64), 9), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * extra + data[-2:]


class TestHostileFiles:
    @pytest.mark.parametrize(
        "data",
        [
            png_header(50_000, 50_000),
            png_header(9_000, 9_000),
            png_header(10_000, 10_000),
            png_header(20_000, 10),
            jpeg_header(65_500, 65_500),
            jpeg_header(9_000, 9_000),
            jpeg_header(30_000, 8),
            webp_header(16_383, 16_383),
            bmp_header(20_000, 10),
            bmp_header(9_000, 9_000),
            bmp_header(9_000, -9_000),
            gif_header(60_000, 60_000),
            gif_header(30_000, 8),
            gif_header(10, 10, frame=(60_000, 60_000)),
            tiff_header(60_000, 60_000),
            tiff_header(9_000, 9_000),
            tiff_header(30_000, 8),
            avif_header(8_000, 8_000),
            avif_header(30_000, 8),
        ],
        ids=lambda data: f"{len(data)} bytes",
    )
    # Pillow warns from 89 million pixels on; as an error it must have the same meaning.
    @pytest.mark.parametrize("action", ["error", "ignore"])
    def test_a_pixel_bomb_is_refused_by_its_header(self, data: bytes, action: Any) -> None:
        started = time.thread_time()
        with warnings.catch_warnings():
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            with pytest.raises(ImageTooManyPixels, match="pixels"):
                prepare(data, SMALL)
        assert time.thread_time() - started < 0.5

    def test_the_limits_are_the_callers(self) -> None:
        data = encode(Image.new("L", (30, 20)))
        with pytest.raises(ImageTooManyPixels, match="30x20 = 600 pixels; at most 599 "):
            prepare(data, SMALL, max_pixels=599)
        with pytest.raises(ImageTooManyPixels, match="29 to a side"):
            prepare(data, SMALL, max_side=29)
        assert prepare(data, SMALL, max_pixels=600, max_side=30).shape == (24, 24, 3)

    def test_an_avif_may_have_half_as_many_pixels(self) -> None:
        data = encode(Image.new("L", (30, 20)), "AVIF")
        assert prepare(data, SMALL, max_pixels=1200).shape == (24, 24, 3)
        with pytest.raises(ImageTooManyPixels, match="30x20 = 600 pixels; at most 599 "):
            prepare(data, SMALL, max_pixels=1199)

    def test_a_bmp_of_run_lengths_is_read_while_it_is_small(self) -> None:
        with pytest.raises(ImageUnreadable, match="read up to 800,000 pixels: save it without compression"):
            prepare(bmp_of_run_lengths(895, b"\x01\x01\0\0" * 895), SMALL)

    def test_a_tiff_of_unknown_range_is_refused(self) -> None:
        for kind in (np.float32, np.int32):
            data = encode(Image.fromarray(np.zeros((9, 9), kind)), "TIFF")
            with pytest.raises(ImageUnreadable, match="32 bits for each value"):
                prepare(data, SMALL)

    def test_a_jpeg_of_endless_scans_is_refused(self) -> None:
        assert prepare(many_scans(20), SMALL).shape == (24, 24, 3)
        with pytest.raises(ImageUnreadable, match="more than 100 scans"):
            prepare(many_scans(10_000), SMALL)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "TIFF LZW", "AVIF"])
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_a_truncated_file_is_refused_with_the_reason(self, kind: str, part: float) -> None:
        kind, _, compressed = kind.partition(" ")
        data = encode(photograph(), kind, **({"compression": "tiff_lzw"} if compressed else {}))
        reasons = r"truncated|decoder|decode next frame|decode frame|damaged|Truncated"
        with pytest.raises(ImageUnreadable, match=reasons):
            prepare(data[: int(len(data) * part)], SMALL)

    def test_the_reason_is_the_decoders(self) -> None:
        data = encode(photograph(), "JPEG")
        with pytest.raises(ImageUnreadable, match=r"the JPEG picture cannot be decoded: image file is truncated"):
            prepare(data[: len(data) // 2], SMALL)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "this is an empty file"),
            (b"hello, world", "it begins with b'hello, w'"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "this is an SVG drawing, which is not read"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture, which is not read: convert it to JPEG"),
            (encode(Image.new("RGB", (9, 9)), "ICO"), "this is an icon (ICO), which is not read"),
            (encode(Image.new("RGB", (9, 9)), "PPM"), "expected a JPEG, PNG, WEBP, BMP, GIF, TIFF or AVIF"),
            (b"\xff\xd8\xff" + b"nonsense" * 9, "the header of this JPEG file is damaged"),
            (b"\x89PNG\r\n\x1a\n" + b"nonsense" * 9, "the header of this PNG file is damaged"),
            (b"RIFF\x00\x00\x00\x00WEBPVP8 " + b"nonsense" * 9, "the header of this WEBP file is damaged"),
            (b"BM" + bytes(12) + b"\x28\0\0\0" + b"nonsense" * 9, "the header of this BMP file is damaged"),
            (b"GIF89a" + bytes(9), "the GIF file holds no picture"),
            (b"II*\0" + b"nonsense" * 9, "the header of this TIFF file is damaged"),
            (b"MM\0+\0\x08\0\0" + bytes(99), "the header of this TIFF file is damaged"),
            (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(99), "the header of this AVIF file is damaged"),
        ],
    )
    def test_what_is_no_picture_is_named(self, data: bytes, reason: str) -> None:
        with pytest.raises(ImageUnreadable) as refusal:
            prepare(data, SMALL)
        assert reason in str(refusal.value)
        assert "0x" not in str(refusal.value)  # no object's address

    def test_a_missing_file_is_not_the_pictures_fault(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            prepare(tmp_path / "absent.jpg", SMALL)

    seeds = (
        encode(noise(60, 50), "JPEG", exif=exif(6)),
        encode(noise(60, 50), "JPEG", progressive=True),
        encode(noise(60, 50).convert("CMYK"), "JPEG"),
        encode(noise(60, 50), "MPO", save_all=True, append_images=[noise(60, 50)]),
        encode(noise(60, 50), "PNG", exif=exif(8)),
        encode(noise(60, 50).convert("P"), "PNG", transparency=3),
        encode(sixteen_bit(), "PNG"),
        encode(noise(60, 50), "PNG", save_all=True, append_images=[noise(60, 50, seed=1)]),
        encode(noise(60, 50), "WEBP", exif=exif(3)),
        encode(noise(60, 50).convert("RGBA"), "WEBP", lossless=True),
        encode(noise(60, 50), "BMP"),
        encode(noise(60, 50).convert("P"), "BMP"),
        encode(noise(60, 50).convert("RGBA"), "BMP"),
        bmp_of_run_lengths(24, b"\x03\x01\x00\x04abcd\x00\x02\x01\x01" * 9),
        encode(noise(60, 50).convert("P"), "GIF", transparency=3),
        encode(noise(60, 50), "GIF", save_all=True, append_images=[noise(60, 50, seed=1)], interlace=1),
        encode(noise(60, 50), "TIFF", exif=exif(6)),
        encode(noise(60, 50), "TIFF", compression="tiff_lzw"),
        encode(noise(60, 50).convert("CMYK"), "TIFF", compression="tiff_adobe_deflate"),
        encode(noise(60, 50).convert("P"), "TIFF", big_tiff=True),
        encode(noise(60, 50).convert("1"), "TIFF", compression="group4"),
        encode(noise(60, 50), "TIFF", compression="jpeg"),
        encode(sixteen_bit(), "TIFF"),
        encode(noise(60, 50), "AVIF", exif=exif(6)),
        encode(noise(60, 50).convert("RGBA"), "AVIF"),
        encode(noise(60, 50), "AVIF", save_all=True, append_images=[noise(60, 50, seed=1)]),
    )

    @pytest.mark.filterwarnings("ignore")
    @settings(max_examples=400, deadline=None)
    @given(st.data())
    def test_a_damaged_file_is_a_picture_or_an_image_error(self, draw: st.DataObject) -> None:
        data = bytearray(draw.draw(st.sampled_from(self.seeds)))
        for _ in range(draw.draw(st.integers(1, 6))):
            # Half of the damage is done to the header, where most of the parsing is.
            place = min(draw.draw(st.integers(0, len(data) - 1) | st.integers(0, 60)), len(data) - 1)
            if draw.draw(st.booleans()):
                data[place] = draw.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
            else:
                del data[place : place + draw.draw(st.integers(1, 8))]
            data = data or bytearray(b"\xff")
        try:
            pixels = prepare(bytes(data), SMALL)
        except ImageError:
            return
        assert pixels.shape == (24, 24, 3)
