"""Errors become stable codes; what is unknown says nothing that is not for users."""

import pytest

from models import errors as models_errors
from models.dataset.errors import DatasetCorrupt
from models.training.errors import DatasetUnusable, Diverged, InvalidRecipe, OutOfMemory
from storage.errors import BlobsUnavailable, DatabaseUnavailable, NotFound
from workers.training.failure import failure_of


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (models_errors.ExportMismatch("differs by 3", {}), "export_mismatch", False),
        (models_errors.WeightsNotFound("x"), "weights_not_found", False),
        (models_errors.WeightsCorrupt("x"), "weights_corrupt", False),
        (models_errors.UnknownArchitecture("x"), "unknown_architecture", False),
        (models_errors.ImageUnreadable("x"), "dataset_unusable", False),
        (DatasetUnusable("x"), "dataset_unusable", False),
        (DatasetCorrupt("x"), "dataset_unusable", False),
        (InvalidRecipe("recipe.epochs", "x"), "invalid_recipe", False),
        (OutOfMemory("x"), "out_of_memory", False),
        (MemoryError(), "out_of_memory", False),
        (Diverged("x"), "diverged", False),
        (NotFound("dataset", "ds_1"), "not_found", False),
        (DatabaseUnavailable("x"), "database_unavailable", True),
        (BlobsUnavailable("x"), "blobs_unavailable", True),
        (OSError(28, "No space left on device"), "disk_failed", True),
    ],
)
def test_known_errors_have_codes(error: Exception, code: str, retry: bool) -> None:
    failure = failure_of(error)
    assert (failure.code, failure.retry) == (code, retry)
    assert failure.detail


def test_unknown_errors_tell_no_secrets() -> None:
    failure = failure_of(RuntimeError("password=hunter2"))
    assert failure.code == "internal"
    assert "hunter2" not in failure.detail
    assert "RuntimeError" in failure.detail


def test_torchs_own_shortage_of_memory_is_known_by_its_name() -> None:
    import torch

    assert failure_of(torch.OutOfMemoryError("CUDA out of memory")).code == "out_of_memory"
