"""The dataset that a fine-tune names: an uploaded one, or one that every installation has."""

from pathlib import Path
from typing import Any

from models.dataset.builtin import BUILTIN, DIGITS
from models.dataset.folder import DatasetFolder, checksums
from models.dataset.places import MANIFEST
from models.training.digits import open_digits
from storage.cache import FolderCache
from storage.datasets import DatasetRegistry, DatasetState
from workers.jobs.failure import InvalidRequest


def open_dataset(dataset_id: str, datasets: DatasetRegistry, folders: FolderCache, cache: Path) -> DatasetFolder:
    """The dataset of that id, or the built-in one, which is made under `cache` on first use.

    Raises NotFound, InvalidRequest for one that is not ready, DatasetError where its files are not what they were.
    """
    if dataset_id == DIGITS:
        return open_digits(cache / BUILTIN / "digits")
    dataset = datasets.get(dataset_id)
    if dataset.state != DatasetState.READY:
        raise InvalidRequest(f"dataset: {dataset_id} is {dataset.state}; only one that is ready can be trained on")
    if not dataset.labels:
        raise InvalidRequest(f"dataset: {dataset_id} has no labels; only one with labels can be trained on")
    folder = folders.keep(dataset.prefix, checksums, last=MANIFEST, sources=dataset.sources)
    return DatasetFolder.open(folder, folders.folders_of(dataset.sources))


def line_of(dataset_id: str, datasets: DatasetRegistry) -> dict[str, Any]:
    """Of a revision what it was made of, the first of its family, and its number; of another dataset nothing."""
    found = None if dataset_id == DIGITS else datasets.get(dataset_id)
    if found is None or found.parent is None:
        return {}
    return {"parent": found.parent, "root": found.root, "revision": found.revision}


def dataset_name(dataset_id: str, datasets: DatasetRegistry) -> str:
    """What its owner calls it; the built-in dataset has no other name than its id. Raises NotFound."""
    return dataset_id if dataset_id == DIGITS else datasets.get(dataset_id).name
