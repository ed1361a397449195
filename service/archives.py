"""Blobs as one zip, streamed while it is read: nothing is gathered on the disk or in memory."""

import io
import zipfile
from collections.abc import Iterator, Mapping

from storage.blobs import BlobStore

CHUNK = 2**20


class _Outbox(io.RawIOBase):
    """Where the zip is written to; what was written is taken out again at once."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def zipped(blobs: BlobStore, files: Mapping[str, str]) -> Iterator[bytes]:
    """The zip's bytes; `files` maps names in the archive to blobs. Stored, not deflated: weights hardly shrink."""
    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED) as archive:
        for name, key in files.items():
            with blobs.open(key) as stored, archive.open(name.lstrip("/"), "w", force_zip64=True) as member:
                while chunk := stored.read(CHUNK):
                    member.write(chunk)
                    yield outbox.take()
    yield outbox.take()
