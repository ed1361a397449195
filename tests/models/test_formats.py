"""Files told by their first bytes: images of every format that is taken, archives, and what else people send."""

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile

import pytest
from PIL import Image
from support.hostile import encode

from models.formats import (
    ACCEPTED_MEDIA_TYPES,
    BEGIN_BYTES,
    FORMAT_NAMES,
    FORMAT_OF_SUFFIX,
    IMAGE_FORMATS,
    archive_kind,
    described,
    image_format,
    media_type,
    no_archive,
    no_image,
)

PICTURE = Image.new("RGB", (9, 9), "red")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "text")
    return buffer.getvalue()


def tar_of(name: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize("known", IMAGE_FORMATS, ids=lambda known: known.name)
def test_what_pillow_writes_is_known_again(known: object) -> None:
    name = known.name
    begin = encode(PICTURE, name)[:BEGIN_BYTES]
    assert image_format(begin) is known
    assert media_type(begin) == Image.MIME[name]
    assert name in FORMAT_NAMES
    assert "expected a JPEG" not in no_archive(begin)
    assert f"{name} picture, not a folder of them: send a zip, a tar or a tar.gz" in no_archive(begin)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {"big_tiff": True}),
        ("AVIF", {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}),
        ("GIF", {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}),
        ("MPO", {"save_all": True, "append_images": [PICTURE]}),
    ],
)  # fmt: skip
def test_rarer_forms_are_known_as_well(kind: str, options: dict[str, object]) -> None:
    known = image_format(encode(PICTURE, kind, **options)[:BEGIN_BYTES])
    assert known
    assert known.name == {"MPO": "JPEG"}.get(kind, kind)


def test_an_avif_under_the_brand_of_its_container_is_one() -> None:
    assert media_type(b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf") == "image/avif"


@pytest.mark.parametrize("alias", ["image/jpg", "image/pjpeg", "image/x-png", "image/x-ms-bmp", "image/x-tiff"])
def test_media_types_that_clients_make_up_are_accepted(alias: str) -> None:
    assert alias in ACCEPTED_MEDIA_TYPES


def test_no_media_type_and_no_suffix_means_two_formats() -> None:
    types = [name for known in IMAGE_FORMATS for name in (known.media_type, *known.aliases)]
    suffixes = [suffix for known in IMAGE_FORMATS for suffix in known.suffixes]
    assert len(types) == len(set(types)) == len(ACCEPTED_MEDIA_TYPES)
    assert len(suffixes) == len(set(suffixes)) == len(FORMAT_OF_SUFFIX)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (zip_of("a.txt"), "zip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (tar_of("a.txt"), "tar"),
        (tar_of("a.txt", format=tarfile.PAX_FORMAT), "tar"),
        (bytes(BEGIN_BYTES), "tar"),
        (gzip.compress(tar_of("a.txt")), "tar.gz"),
        (b"", None),
        (b"text", None),
        (encode(PICTURE, "JPEG"), None),
        (bytes(100), None),
    ],
)
def test_an_archive_is_told_by_its_first_block(begin: bytes, kind: str | None) -> None:
    assert archive_kind(begin[:BEGIN_BYTES]) == kind


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"", "an empty file"),
        (HEIC, "a HEIC picture"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC picture"),
        (b"8BPS\0\1", "a Photoshop picture"),
        (b"%PDF-1.7", "a PDF"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\7", "a RAR archive"),
        (b"\n <svg xmlns=", "an SVG drawing"),
        (b"\n<!DOCTYPE html>", "markup (an HTML or XML page)"),
        (zip_of("a.txt"), "a zip archive"),
        (b"\1\2\3", "no file that Fovea knows (it begins with b'\\x01\\x02\\x03')"),
        (b"BM is how this text begins", "no file that Fovea knows (it begins with b'BM is ho')"),
    ],
)
def test_what_else_a_file_is_is_said_in_words(begin: bytes, words: str) -> None:
    assert described(begin[:BEGIN_BYTES]) == words


def test_whoever_sends_a_heic_is_told_what_to_do() -> None:
    assert no_image(HEIC) == "this is a HEIC picture, which is not read: convert it to JPEG"


def test_the_table_needs_no_pillow() -> None:
    code = "import sys, models.formats; print([name for name in ('PIL', 'numpy', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
