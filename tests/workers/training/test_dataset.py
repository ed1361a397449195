"""Which datasets a training opens."""

import pytest
from support.trainer import Trainer

from storage.cache import FolderCache
from storage.datasets import DatasetState
from workers.jobs.failure import InvalidRequest
from workers.training.dataset import open_dataset


def test_only_a_dataset_that_is_ready_and_has_labels_is_trained_on(trainer: Trainer) -> None:
    """The gateway refuses both before; a job of an earlier release's may name them."""
    folders = FolderCache(trainer.blobs, trainer.folder / "copies", 2**20)
    for state, said in ((DatasetState.CHECKING, "is checking"), (DatasetState.READY, "has no labels")):
        dataset = trainer.datasets.add("images", prefix=f"datasets/{state}", state=state)
        with pytest.raises(InvalidRequest, match=said):
            open_dataset(dataset.id, trainer.datasets, folders, trainer.folder)
