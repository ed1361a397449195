"""Where the files of a dataset lie among the blobs. Knows no image.

Below the dataset's own prefix, or, of a revision, below those that its other images were sent to. A file's name is
that of its content, so that whichever prefix has one of that name has the right one.
"""

from contextlib import suppress
from dataclasses import dataclass

from storage.blobs import BlobStore
from storage.datasets import Dataset
from storage.errors import NotFound


@dataclass(frozen=True)
class StoredFile:
    """A file's key among the blobs, its size, and the prefix that it lies below."""

    key: str
    bytes: int
    prefix: str


@dataclass(frozen=True)
class DatasetFiles:
    """The files below `prefix`, and those below `sources` that it shares."""

    blobs: BlobStore
    prefix: str
    sources: tuple[str, ...] = ()

    def get_bytes(self, name: str) -> bytes:
        """The content of `thumbnails/SHA256.webp`, say. Raises NotFound, BlobsUnavailable."""
        for prefix in (self.prefix, *self.sources):
            with suppress(NotFound):
                return self.blobs.get_bytes(_below(prefix, name))
        raise NotFound("file", f"{self.prefix}/{name}")

    def located(self, folder: str) -> dict[str, StoredFile]:
        """All files in the folder of that name and below it, also those of other datasets that lie beside the
        shared ones, by name: `files/ab/SHA256`. Raises BlobsUnavailable."""
        found: dict[str, StoredFile] = {}
        for prefix in (*reversed(self.sources), self.prefix):
            for key, size in self.blobs.sizes(_below(prefix, folder)).items():
                name = key.removeprefix(f"{prefix}/")
                found[name] = StoredFile(key, size, prefix)
        return found


def files_of(blobs: BlobStore, dataset: Dataset) -> DatasetFiles:
    """Where the dataset's files and thumbnails lie."""
    return DatasetFiles(blobs, dataset.prefix, dataset.sources)


def _below(prefix: str, name: str) -> str:
    """A store of one dataset alone has it below no prefix."""
    return f"{prefix}/{name}" if prefix else name
