"""A labelled dataset as an inference worker reads it: its samples, and the blobs that its pictures are."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from models.dataset.builtin import BUILTIN, DIGITS
from models.dataset.draw import Draw
from models.dataset.errors import DatasetCorrupt
from models.dataset.folder import DatasetFolder
from models.dataset.places import DRAW, FILES, SAMPLES, file_name, thumbnail_name
from models.dataset.sample import Sample
from models.training.digits import open_digits
from storage.blobs import BlobStore
from storage.dataset_files import DatasetFiles, StoredFile, files_of
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from storage.errors import NotFound
from workers.jobs.failure import InvalidRequest


@dataclass(frozen=True)
class LabelledDataset:
    """`folder` has the samples; its path says nothing, for the pictures are `files`. `revision` is its number in
    the line."""

    id: str
    name: str
    folder: DatasetFolder
    files: DatasetFiles
    revision: int = 1

    def key_of(self, sample: Sample) -> str:
        """Where its picture is; where it would be, if it is gone. Raises BlobsUnavailable."""
        name = file_name(sample.sha256)
        return found.key if (found := self.pictures.get(name)) else f"{self.files.prefix}/{name}"

    def thumbnail(self, sha256: str) -> bytes | None:
        """A WebP file; None where it is gone. Raises BlobsUnavailable."""
        try:
            return self.files.get_bytes(thumbnail_name(sha256))
        except NotFound:
            return None

    def sizes(self) -> dict[str, int]:
        """Of the pictures by their keys. Raises BlobsUnavailable."""
        return {file.key: file.bytes for file in self.pictures.values()}

    @cached_property
    def pictures(self) -> dict[str, StoredFile]:
        """By name, as `file_name` gives it. Raises BlobsUnavailable."""
        return self.files.located(FILES)


@dataclass(frozen=True)
class LabelledDatasets:
    """Reads them; the built-in one is made under `cache` on first use."""

    registry: DatasetRegistry
    blobs: BlobStore
    cache: Path

    def open(self, dataset_id: str) -> LabelledDataset:
        """Raises NotFound, DatasetCorrupt, BlobsUnavailable, and InvalidRequest for one that cannot be measured
        by."""
        if dataset_id == DIGITS:
            folder = open_digits(self.cache / BUILTIN / "digits")
            return LabelledDataset(DIGITS, DIGITS, folder, DatasetFiles(BlobStore(str(folder.path)), ""))
        dataset = self.registry.get(dataset_id)
        if dataset.state is not DatasetState.READY or not dataset.labels:
            raise InvalidRequest(f"dataset: {dataset_id} has to be ready, and to have labels")
        return self._uploaded(dataset)

    def of_content(self, content_hash: str) -> LabelledDataset | None:
        """None where there is no dataset of that content any more. Raises what `open` raises."""
        dataset = self.registry.find_by_hash(content_hash)
        return self._uploaded(dataset) if dataset and dataset.labels else None

    def _uploaded(self, dataset: Dataset) -> LabelledDataset:
        content = self.blobs.get_bytes(f"{dataset.prefix}/{SAMPLES}")
        try:
            samples = tuple(Sample.from_dict(json.loads(line)) for line in content.splitlines())
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetCorrupt(f"{SAMPLES} cannot be read: {error}") from error
        folder = DatasetFolder(
            Path(),
            tuple(dataset.labels),
            samples,
            dataset.content_hash or "",
            dataset.size_bytes,
            draw=self._draw(dataset),
        )
        files = files_of(self.blobs, dataset)
        return LabelledDataset(dataset.id, dataset.name, folder, files, dataset.revision)

    def _draw(self, dataset: Dataset) -> Draw | None:
        """A revision's."""
        if dataset.parent is None:
            return None
        try:
            return Draw.from_dict(json.loads(self.blobs.get_bytes(f"{dataset.prefix}/{DRAW}")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetCorrupt(f"{DRAW} cannot be read: {error}") from error
