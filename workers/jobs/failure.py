"""The one table of failed jobs: from an error to a stable code and to words for the job's user.

It also says whether another attempt may do better. `docs/api.md` lists the codes; a test holds it to this table.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from redis import RedisError

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
    CoverageUnavailable,
    DeviceUnavailable,
    ExportFailed,
    ExportMismatch,
    ImageError,
    InvalidArchitecture,
    InvalidBatch,
    ModelError,
    ModelFileRefused,
    ModelQuarantined,
    PrecisionUnavailable,
    PredictionFailed,
    UnknownArchitecture,
    UnknownWeights,
    UploadFactsMissing,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
    WeightsNotFound,
)
from models.training.errors import (
    Diverged,
    InvalidRecipe,
    OutOfMemory,
    RankKilled,
    RankLost,
    UntrainableDataset,
)
from models.validation import invalid_fields
from storage.errors import (
    BlobsUnavailable,
    Conflict,
    DatabaseUnavailable,
    InvalidName,
    InvalidReference,
    NotFound,
    StorageError,
)
from system.ending import OUT_OF_MEMORY

INTERNAL = "internal"
TRAINER_KILLED, TRAINER_CRASHED = "trainer_killed", "trainer_crashed"


class InvalidRequest(Exception):
    """The request asks for what there is not or what does not fit together; the text names the field."""


class DiskFull(Exception):
    """The disk that the worker writes to is full."""


class ProcessKilled(Exception):
    """The process that did the work was killed without a word of its own; `how` it is known that it was."""

    def __init__(self, how: str = "SIGKILL") -> None:
        super().__init__(how)
        self.how = how

    def __str__(self) -> str:
        cause = "the machine ran out of memory" if self.how == OUT_OF_MEMORY else "most often for want of memory"
        return (
            f"The training process was killed (SIGKILL): {cause}. Give the training worker more, or choose a "
            "smaller batch_size or architecture."
        )


class ProcessCrashed(Exception):
    """The process that did the work ended by itself without saying how its job ended; `how`, in a few words."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __str__(self) -> str:
        return f"The training process ended by itself ({self.how}); the worker's log has the details."


class Quarantined(Exception):
    """The job has ended its process twice; the text says how, each time."""

    def __init__(self, before: str, now: str) -> None:
        super().__init__(before, now)
        self.before, self.now = before, now

    def __str__(self) -> str:
        return (
            f"The job has ended its process twice, so it is not tried again. First: {self.before} "
            f"Then: {self.now} Change what it asks for before you send it again."
        )


@dataclass(frozen=True)
class Failure:
    """What is written into the job; with `retry`, another attempt may succeed."""

    code: str
    detail: str
    retry: bool = False


@dataclass(frozen=True)
class FailureKind:
    """One kind of error. Without `words` its own text is told: such errors are written for users."""

    kind: type[BaseException]
    code: str
    retry: bool = False
    words: str | None = None


# The first that fits counts, so a class stands before its bases.
TABLE: tuple[FailureKind, ...] = (
    FailureKind(ExportMismatch, "export_mismatch"),
    FailureKind(ExportFailed, "export_failed"),
    FailureKind(ModelFileRefused, "model_file_refused"),
    FailureKind(UploadFactsMissing, "invalid_request"),
    FailureKind(WeightsNotFound, "weights_not_found"),
    FailureKind(UnknownWeights, "unknown_weights"),
    FailureKind(WeightsCorrupt, "weights_corrupt"),
    FailureKind(WeightsMismatch, "weights_mismatch"),
    FailureKind(WeightsError, "weights_unusable"),
    FailureKind(UnknownArchitecture, "unknown_architecture"),
    FailureKind(InvalidArchitecture, "invalid_architecture"),
    FailureKind(InvalidRecipe, "invalid_recipe"),
    FailureKind(InvalidRequest, "invalid_request"),
    FailureKind(DatasetRefused, "dataset_refused"),
    FailureKind(UnsafeArchive, "unsafe_archive"),
    FailureKind(LimitExceeded, "limit_exceeded"),
    FailureKind(ArchiveError, "archive_unreadable"),
    FailureKind(LayoutUnclear, "layout_unclear"),
    FailureKind(UntrainableDataset, "dataset_unusable"),
    FailureKind(DatasetError, "dataset_unusable"),
    FailureKind(ImageError, "dataset_unusable"),
    FailureKind(OutOfMemory, "out_of_memory"),
    FailureKind(MemoryError, "out_of_memory", words="The worker's memory is used up."),
    FailureKind(Diverged, "diverged"),
    FailureKind(RankKilled, TRAINER_KILLED, True),
    FailureKind(RankLost, TRAINER_CRASHED, True),
    FailureKind(DeviceUnavailable, "device_unavailable"),
    FailureKind(ArtifactError, "artifact_unusable"),
    FailureKind(PredictionFailed, "inference_failed"),
    FailureKind(InvalidBatch, "inference_failed"),
    FailureKind(ModelQuarantined, "model_quarantined"),
    FailureKind(PrecisionUnavailable, "precision_unavailable"),
    FailureKind(CoverageUnavailable, "coverage_unavailable"),
    FailureKind(ModelError, "model_unusable"),
    FailureKind(NotFound, "not_found"),
    FailureKind(Conflict, "conflict", True),
    FailureKind(InvalidName, "invalid_request"),
    FailureKind(InvalidReference, "invalid_request"),
    # The texts of these name hosts, folders and URLs: they are for the worker's log.
    FailureKind(DatabaseUnavailable, "database_unavailable", True, "The database could not be reached."),
    FailureKind(BlobsUnavailable, "blobs_unavailable", True, "The store of files could not be read or written."),
    FailureKind(RedisError, "broker_unavailable", True, "Redis could not be reached, or did not answer."),
    FailureKind(StorageError, "storage_failed", words="What is kept could not be read or written."),
    FailureKind(DiskFull, "disk_full", True, "The worker's disk is full."),
    FailureKind(OSError, "disk_failed", True, "A file of the worker could not be read or written."),
    FailureKind(Quarantined, "quarantined"),
    FailureKind(ProcessKilled, TRAINER_KILLED, True),
    FailureKind(ProcessCrashed, TRAINER_CRASHED, True),
)


def failure_of(error: BaseException) -> Failure:
    """What the job's user is told. Unknown errors give a fixed text: theirs may hold what is not for users."""
    if isinstance(error, ValidationError):
        return Failure("invalid_request", str(invalid_fields(error.errors())))
    if _is_torchs_shortage(error):
        return Failure("out_of_memory", f"The device's memory is used up: {error}")
    if _is_full_disk(error):
        error = DiskFull()
    for row in TABLE:
        if isinstance(error, row.kind):
            return Failure(row.code, row.words or str(error) or type(error).__name__, row.retry)
    return Failure(INTERNAL, f"An unexpected {type(error).__name__}; the worker's log has the details.")


def unless_again(death: Exception, before: Mapping[str, str] | None) -> Exception:
    """`death`, or, where the attempt before has died, too, that the job is not tried again.

    `before` is the error that the job has from that attempt.
    """
    if before and before.get("code") in (TRAINER_KILLED, TRAINER_CRASHED):
        return Quarantined(before["detail"], str(death))
    return death


def _is_torchs_shortage(error: BaseException) -> bool:
    """Known by name and text, because this process may not have got as far as importing torch."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _is_full_disk(error: BaseException | None) -> bool:
    """Also where another error stands before it, as the blobs' store and libraries put theirs."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
