"""Errors become stable codes; what is unknown, or names a server's inside, is not told to users."""

import errno
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from redis import ConnectionError as RedisConnectionError
from support.provoked import PROVOKED, Provoke, folders_in

from models import errors as models_errors
from models.dataset.errors import ArchiveUnreadable, DatasetCorrupt, LimitExceeded, UnsafeArchive
from models.training.errors import Diverged, InvalidRecipe, OutOfMemory, UntrainableDataset
from storage import errors as storage_errors
from storage.blobs import BlobStore
from storage.errors import BlobsUnavailable, Conflict, DatabaseUnavailable, NotFound, StorageError
from storage.job_rows import ATTEMPTS_EXHAUSTED
from workers.contract.jobs.finetune import FinetuneRequest
from workers.jobs.failure import INTERNAL, TABLE, DiskFull, InvalidRequest, failure_of

API = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (models_errors.ExportMismatch("differs by 3", {}), "export_mismatch", False),
        (models_errors.ExportFailed("too large"), "export_failed", False),
        (models_errors.WeightsNotFound("x"), "weights_not_found", False),
        (models_errors.WeightsCorrupt("x"), "weights_corrupt", False),
        (models_errors.UnknownArchitecture("x"), "unknown_architecture", False),
        (models_errors.ImageUnreadable("x"), "dataset_unusable", False),
        (models_errors.ArtifactCorrupt("x"), "artifact_unusable", False),
        (models_errors.ArtifactNotFound("x"), "artifact_unusable", False),
        (models_errors.PredictionFailed("x"), "inference_failed", False),
        (UntrainableDataset("x"), "dataset_unusable", False),
        (DatasetCorrupt("x"), "dataset_unusable", False),
        (ArchiveUnreadable("x"), "archive_unreadable", False),
        (UnsafeArchive("x"), "unsafe_archive", False),
        (LimitExceeded("files", "x"), "limit_exceeded", False),
        (InvalidRecipe("x"), "invalid_recipe", False),
        (InvalidRequest("x"), "invalid_request", False),
        (OutOfMemory("x"), "out_of_memory", False),
        (MemoryError(), "out_of_memory", False),
        (Diverged("x"), "diverged", False),
        (NotFound("dataset", "ds_1"), "not_found", False),
        (Conflict("x"), "conflict", True),
        (DatabaseUnavailable("x"), "database_unavailable", True),
        (BlobsUnavailable("x"), "blobs_unavailable", True),
        (RedisConnectionError("x"), "broker_unavailable", True),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", True),
        (OSError(errno.EIO, "Input/output error"), "disk_failed", True),
    ],
)
def test_known_errors_have_codes(error: Exception, code: str, retry: bool) -> None:
    failure = failure_of(error)
    assert (failure.code, failure.retry) == (code, retry)
    assert failure.detail


def test_a_full_disk_has_one_code_wherever_it_is_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blobs' store puts its own error around the disk's."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/blobs/x")

    monkeypatch.setattr("shutil.copyfile", full)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BlobsUnavailable) as caught:
        BlobStore(str(tmp_path / "blobs")).put_file("x", tmp_path / "file")
    assert failure_of(caught.value) == failure_of(OSError(errno.ENOSPC, "No space left on device"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("password=hunter2 in /srv/secret"),
        OSError(errno.EACCES, "Permission denied", "/srv/secret"),
        BlobsUnavailable("'k' in 'file:///srv/secret' cannot be read"),
        DatabaseUnavailable("The database 'postgresql://hunter2@db' cannot be used"),
        StorageError("/srv/secret"),
    ],
)
def test_hosts_folders_and_what_is_unknown_are_for_the_log(error: Exception) -> None:
    detail = failure_of(error).detail
    assert "hunter2" not in detail
    assert "/srv" not in detail


# What comes of PyTorch in the middle of its work, and says numbers and names of layers.
NOT_PROVOKED = {models_errors.ExportMismatch, models_errors.ExportFailed, OutOfMemory, Diverged, DiskFull}


def test_every_kind_of_failure_is_provoked_or_not_with_a_reason() -> None:
    assert {row.kind for row in TABLE} == (PROVOKED.keys() & {row.kind for row in TABLE}) | NOT_PROVOKED


@pytest.mark.parametrize(
    ("kind", "provoke"), [(kind, provoke) for kind, calls in PROVOKED.items() for provoke in calls]
)
def test_no_user_of_a_job_is_told_where_something_lies(
    kind: type[BaseException], provoke: Provoke, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        provoke(tmp_path)
    detail = failure_of(caught.value).detail
    assert str(tmp_path) not in detail
    assert folders_in(detail) == []
    assert "mirror.example" not in detail


def test_an_unknown_error_is_named_by_its_class() -> None:
    failure = failure_of(RuntimeError("x"))
    assert (failure.code, failure.retry) == (INTERNAL, False)
    assert "RuntimeError" in failure.detail


def test_a_row_that_is_no_request_names_its_fields() -> None:
    with pytest.raises(ValidationError) as caught:
        FinetuneRequest.model_validate({"model": "m", "dataset": "", "architecture": "lenet5", "seed": -1})
    failure = failure_of(caught.value)
    assert failure.code == "invalid_request"
    assert failure.detail.startswith("dataset: ")
    assert "seed: got -1" in failure.detail


def test_torchs_own_shortage_of_memory_is_known_by_its_name() -> None:
    import torch

    assert failure_of(torch.OutOfMemoryError("CUDA out of memory")).code == "out_of_memory"


def all_errors(base: type[BaseException]) -> set[type[BaseException]]:
    return {base} | {error for kind in base.__subclasses__() for error in all_errors(kind)}


@pytest.mark.parametrize("base", [models_errors.ModelError, storage_errors.StorageError])
def test_every_error_of_ours_has_a_row(base: type[BaseException]) -> None:
    kinds = {row.kind for row in TABLE}
    assert {error for error in all_errors(base) if not kinds & set(error.__mro__)} == set()


def test_no_row_is_hidden_behind_an_earlier_one() -> None:
    for place, row in enumerate(TABLE):
        assert not any(issubclass(row.kind, before.kind) for before in TABLE[:place]), row


def test_the_api_page_lists_every_code_and_no_other() -> None:
    page = API.read_text("utf-8")
    section = page[page.index("## When a job fails") :]
    section = section[: section.find("\n## ", 1)]
    listed = {
        code
        for line in re.findall(r"^\| (`\w+`.*?) \|", section, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", line)
    }
    assert listed == {row.code for row in TABLE} | {INTERNAL, ATTEMPTS_EXHAUSTED}
    again = {
        code
        for line in re.findall(r"^\| (`\w+`.*?) \| yes \|", section, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", line)
    }
    assert again == {row.code for row in TABLE if row.retry}


def test_a_full_disk_is_known_behind_other_errors() -> None:
    error = RuntimeError("the library gave up")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert failure_of(error).code == "disk_full"
