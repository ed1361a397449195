"""The one table of failed jobs: from an error to its stable code, to whether another attempt may do better, and to
the words that the job's user is told. `docs/api.md` lists the codes; a test holds it to this table.
"""

import errno
import signal
from dataclasses import dataclass

from pydantic import ValidationError

from models.dataset.errors import (
    ArchiveError,
    DatasetError,
    DatasetRefused,
    LayoutUnclear,
    LimitExceeded,
    UnsafeArchive,
)
from models.errors import (
    ArtifactError,
    DeviceUnavailable,
    ExportFailed,
    ExportMismatch,
    ImageError,
    InvalidArchitecture,
    InvalidBatch,
    ModelError,
    PredictionFailed,
    UnknownArchitecture,
    UnknownWeights,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
    WeightsNotFound,
)
from models.training.errors import DatasetUnusable, Diverged, InvalidRecipe, OutOfMemory
from models.validation import faults_of
from storage.errors import (
    BlobsUnavailable,
    Conflict,
    DatabaseUnavailable,
    InvalidName,
    InvalidReference,
    NotFound,
    StorageError,
)

INTERNAL = "internal"


class InvalidRequest(Exception):
    """The request asks for what there is not or what does not fit together; the text names the field."""


class DiskFull(Exception):
    """The disk that the worker writes to is full."""


class ProcessKilled(Exception):
    """The process that did the work was killed without a word of its own."""

    def __str__(self) -> str:
        return (
            "The training process was killed (SIGKILL); most often the machine ran out of memory. Give the "
            "training worker more, or choose a smaller batch_size or architecture."
        )


class ProcessCrashed(Exception):
    """The process that did the work ended by itself without saying how its job ended; carries its exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        if self.exit_code < 0:
            return f"The training process was ended by {signal.Signals(-self.exit_code).name}."
        return f"The training process ended with exit code {self.exit_code}; the worker's log has the details."


@dataclass(frozen=True)
class Failure:
    """What is written into the job; with `retry`, another attempt may succeed."""

    code: str
    detail: str
    retry: bool = False


@dataclass(frozen=True)
class Row:
    """One kind of error. Without `words` its own text is told: such errors are written for users."""

    kind: type[BaseException]
    code: str
    retry: bool = False
    words: str | None = None


# The first that fits counts, so a class stands before its bases.
TABLE: tuple[Row, ...] = (
    Row(ExportMismatch, "export_mismatch"),
    Row(ExportFailed, "export_failed"),
    Row(WeightsNotFound, "weights_not_found"),
    Row(UnknownWeights, "unknown_weights"),
    Row(WeightsCorrupt, "weights_corrupt"),
    Row(WeightsMismatch, "weights_mismatch"),
    Row(WeightsError, "weights_unusable"),
    Row(UnknownArchitecture, "unknown_architecture"),
    Row(InvalidArchitecture, "invalid_architecture"),
    Row(InvalidRecipe, "invalid_recipe"),
    Row(InvalidRequest, "invalid_request"),
    Row(DatasetRefused, "dataset_refused"),
    Row(UnsafeArchive, "unsafe_archive"),
    Row(LimitExceeded, "limit_exceeded"),
    Row(ArchiveError, "archive_unreadable"),
    Row(LayoutUnclear, "layout_unclear"),
    Row(DatasetUnusable, "dataset_unusable"),
    Row(DatasetError, "dataset_unusable"),
    Row(ImageError, "dataset_unusable"),
    Row(OutOfMemory, "out_of_memory"),
    Row(MemoryError, "out_of_memory", words="The worker's memory is used up."),
    Row(Diverged, "diverged"),
    Row(DeviceUnavailable, "device_unavailable"),
    Row(ArtifactError, "artifact_unusable"),
    Row(PredictionFailed, "inference_failed"),
    Row(InvalidBatch, "inference_failed"),
    Row(ModelError, "model_unusable"),
    Row(NotFound, "not_found"),
    Row(Conflict, "conflict", True),
    Row(InvalidName, "invalid_request"),
    Row(InvalidReference, "invalid_request"),
    # The texts of these name hosts, folders and URLs: they are for the worker's log.
    Row(DatabaseUnavailable, "database_unavailable", True, "The database could not be reached."),
    Row(BlobsUnavailable, "blobs_unavailable", True, "The store of files could not be read or written."),
    Row(StorageError, "storage_failed", words="What is kept could not be read or written."),
    Row(DiskFull, "disk_full", True, "The worker's disk is full."),
    Row(OSError, "disk_failed", True, "A file of the worker could not be read or written."),
    Row(ProcessKilled, "trainer_killed", True),
    Row(ProcessCrashed, "trainer_crashed", True),
)


def failure_of(error: BaseException) -> Failure:
    """What the job's user is told. Unknown errors give a fixed text: theirs may hold what is not for users."""
    if isinstance(error, ValidationError):
        return Failure("invalid_request", "; ".join(map(str, faults_of(error.errors()))))
    if _is_torchs_shortage(error):
        return Failure("out_of_memory", f"The device's memory is used up: {error}")
    if _is_full_disk(error):
        error = DiskFull()
    for row in TABLE:
        if isinstance(error, row.kind):
            return Failure(row.code, row.words or str(error) or type(error).__name__, row.retry)
    return Failure(INTERNAL, f"An unexpected {type(error).__name__}; the worker's log has the details.")


def _is_torchs_shortage(error: BaseException) -> bool:
    """Known by name and text, because this process may not have got as far as importing torch."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _is_full_disk(error: BaseException | None) -> bool:
    """Also where the blobs' store says so: it stands behind its own error."""
    while isinstance(error, OSError | BlobsUnavailable):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
