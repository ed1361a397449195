"""One table: what went wrong in a training job -> a stable code, and whether another attempt may do better."""

from dataclasses import dataclass

from models.dataset.errors import DatasetError
from models.errors import (
    ArtifactError,
    DeviceUnavailable,
    ExportMismatch,
    ImageError,
    InvalidArchitecture,
    ModelError,
    UnknownArchitecture,
    UnknownWeights,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
    WeightsNotFound,
)
from models.training.errors import DatasetUnusable, Diverged, InvalidRecipe, OutOfMemory
from storage.errors import (
    BlobsUnavailable,
    DatabaseUnavailable,
    InvalidName,
    InvalidReference,
    NotFound,
    StorageError,
)
from workers.training.request import InvalidRequest


@dataclass(frozen=True)
class Failure:
    code: str
    detail: str
    retry: bool = False


# The first that fits counts, so a class stands before its bases. `True`: another attempt may succeed.
TABLE: tuple[tuple[type[BaseException], str, bool], ...] = (
    (ExportMismatch, "export_mismatch", False),
    (WeightsNotFound, "weights_not_found", False),
    (UnknownWeights, "unknown_weights", False),
    (WeightsCorrupt, "weights_corrupt", False),
    (WeightsMismatch, "weights_mismatch", False),
    (WeightsError, "weights_unusable", False),
    (UnknownArchitecture, "unknown_architecture", False),
    (InvalidArchitecture, "invalid_architecture", False),
    (InvalidRecipe, "invalid_recipe", False),
    (InvalidRequest, "invalid_request", False),
    (DatasetUnusable, "dataset_unusable", False),
    (DatasetError, "dataset_unusable", False),
    (ImageError, "dataset_unusable", False),
    (OutOfMemory, "out_of_memory", False),
    (MemoryError, "out_of_memory", False),
    (Diverged, "diverged", False),
    (DeviceUnavailable, "device_unavailable", False),
    (ArtifactError, "artifact_unusable", False),
    (ModelError, "model_unusable", False),
    (NotFound, "not_found", False),
    (InvalidName, "invalid_request", False),
    (InvalidReference, "invalid_request", False),
    (DatabaseUnavailable, "database_unavailable", True),
    (BlobsUnavailable, "blobs_unavailable", True),
    (StorageError, "storage_failed", False),
    (OSError, "disk_failed", True),
)


def failure_of(error: BaseException) -> Failure:
    """What the job's user is told. Unknown errors give a fixed text: theirs may hold what is not for users."""
    if _is_torchs_shortage(error):
        return Failure("out_of_memory", f"The device's memory is used up: {error}")
    for kind, code, retry in TABLE:
        if isinstance(error, kind):
            return Failure(code, str(error) or type(error).__name__, retry)
    return Failure("internal", f"An unexpected {type(error).__name__}; the training worker's log has the details.")


def _is_torchs_shortage(error: BaseException) -> bool:
    """Known by name and text, because this process may not have got as far as importing torch."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
