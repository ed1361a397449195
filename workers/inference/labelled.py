"""A labelled dataset as an inference worker reads it: its samples, and the blobs that its pictures are."""

import json
from dataclasses import dataclass
from pathlib import Path

from models.dataset.builtin import BUILTIN, DIGITS
from models.dataset.errors import DatasetCorrupt
from models.dataset.folder import DatasetFolder, file_name, thumbnail_name
from models.dataset.sample import SAMPLES, Sample
from models.training.digits import open_digits
from storage.blobs import BlobStore
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from storage.errors import NotFound
from workers.jobs.failure import InvalidRequest


@dataclass(frozen=True)
class LabelledDataset:
    """`folder` has the samples; its path says nothing, for the pictures are `blobs`, below `prefix`."""

    id: str
    name: str
    folder: DatasetFolder
    blobs: BlobStore
    prefix: str

    def key_of(self, sample: Sample) -> str:
        return self._below(file_name(sample.sha256))

    def thumbnail(self, sha256: str) -> bytes | None:
        """A WebP file; None where it is gone. Raises BlobsUnavailable."""
        try:
            return self.blobs.get_bytes(self._below(thumbnail_name(sha256)))
        except NotFound:
            return None

    def sizes(self) -> dict[str, int]:
        """Of the pictures by their keys. Raises BlobsUnavailable."""
        return self.blobs.sizes(self._below("files"))

    def _below(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


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
            return LabelledDataset(DIGITS, DIGITS, folder, BlobStore(str(folder.path)), "")
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
            Path(), tuple(dataset.labels), samples, dataset.content_hash or "", dataset.size_bytes
        )
        return LabelledDataset(dataset.id, dataset.name, folder, self.blobs, dataset.prefix)
