"""What the phases of a training job work with. Made once by the runner; knows no phase."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.weights.store import WeightsStore
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.datasets import DatasetRegistry
from storage.jobs import Attempt, JobLedger
from storage.registry import ModelRegistry
from workers.settings import WorkerSettings
from workers.training.lease import Lease
from workers.training.reporter import Reporter


@dataclass(frozen=True)
class Context:
    settings: WorkerSettings
    attempt: Attempt
    ledger: JobLedger
    registry: ModelRegistry
    shelf: DatasetRegistry
    blobs: BlobStore
    folders: FolderCache
    weights: WeightsStore
    lease: Lease
    reporter: Reporter
    # Called with the artifact's folder between export and gate; a test spoils the graph there.
    exported: Callable[[Path], object] = Path.exists

    @property
    def job_id(self) -> str:
        return self.attempt.job.id

    @property
    def request(self) -> dict[str, Any]:
        return self.attempt.job.request

    @property
    def work(self) -> Path:
        """The job's own folder on this machine; it outlives an attempt and goes with the job's end."""
        return self.settings.data / "work" / self.job_id

    @property
    def artifact_folder(self) -> Path:
        """Where this attempt's artifact is put together; a zombie's is another."""
        return self.work / f"artifact-{self.attempt.token[:8]}"

    @property
    def artifact_prefix(self) -> str:
        """Where this attempt's artifact goes: of its own, so that a zombie never writes into a published one."""
        return f"models/{self.request['model']}/{self.job_id}/{self.attempt.token[:8]}"

    @property
    def checkpoint_prefix(self) -> str:
        return f"jobs/{self.job_id}/checkpoints"
