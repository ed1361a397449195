"""Blobs as one zip, streamed while it is read: nothing is gathered on the disk or in memory."""

from collections.abc import Iterator, Mapping

from zipstream import ZipStream

from storage.blobs import BlobStore

CHUNK_BYTES = 2**20


def zipped(blobs: BlobStore, files: Mapping[str, str]) -> Iterator[bytes]:
    """The zip's bytes; `files` maps names in the archive to blobs. Stored, not deflated: weights hardly shrink.

    A blob that cannot be read raises StorageError in the middle, so that the download breaks off before the zip's
    directory.
    """
    archive = ZipStream()
    for name, key in files.items():
        # Of unknown size, so that each may have more than 4 GiB (zip64).
        archive.add(_chunks(blobs, key), name.lstrip("/"))
    yield from archive


def _chunks(blobs: BlobStore, key: str) -> Iterator[bytes]:
    with blobs.open(key) as stored:
        while chunk := stored.read(CHUNK_BYTES):
            yield chunk
