"""Blobs as a zip: whole, streamed, and broken off where a blob cannot be read."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from service.archives import CHUNK_BYTES, zipped
from storage.blobs import BlobStore
from storage.errors import StorageError

FILES = {
    "model.onnx": bytes(range(256)) * 20_000,
    "plots/a b.svg": b"<svg/>",
    "ärger.md": b"",
    "manifest.json": b"{}",
}


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore((tmp_path / "blobs").as_uri())
    for name, content in FILES.items():
        store.put_bytes(f"models/m/1/{name}", content)
    return store


KEYS = {name: f"models/m/1/{name}" for name in FILES}


def test_a_zip_holds_every_file_stored_and_sound(blobs: BlobStore) -> None:
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped(blobs, KEYS)))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_name_cannot_lead_out_of_the_folder_that_it_is_unpacked_in(blobs: BlobStore) -> None:
    stream = b"".join(zipped(blobs, {"/etc/passwd": KEYS["manifest.json"]}))
    assert zipfile.ZipFile(io.BytesIO(stream)).namelist() == ["etc/passwd"]


def test_each_file_may_be_larger_than_four_gigabytes(blobs: BlobStore) -> None:
    """Its header has the extra field of zip64 (number 1), into which the sizes go."""
    header = next(iter(zipped(blobs, {"model.onnx": KEYS["model.onnx"]})))
    name_length, extra_length = struct.unpack_from("<HH", header, 26)
    extra = header[30 + name_length : 30 + name_length + extra_length]
    assert struct.unpack_from("<H", extra) == (1,)


def test_nothing_is_gathered(tmp_path: Path) -> None:
    store = BlobStore((tmp_path / "blobs").as_uri())
    for number in range(4):
        store.put_bytes(f"{number}", bytes(8 * CHUNK_BYTES))
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in zipped(store, {f"{n}.bin": f"{n}" for n in range(4)}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 32 * CHUNK_BYTES
    assert peak < 4 * CHUNK_BYTES


def test_a_blob_that_is_gone_breaks_the_zip_off(blobs: BlobStore) -> None:
    stream = zipped(blobs, {**KEYS, "lost.md": "models/m/1/lost.md", "behind.md": KEYS["manifest.json"]})
    received = bytearray()

    def receive() -> None:
        for piece in stream:
            received.extend(piece)

    with pytest.raises(StorageError, match=r"lost\.md"):
        receive()
    assert len(received) > len(FILES["model.onnx"])
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(received))
