"""An ingest job: an uploaded archive becomes a dataset that is ready, or its report says why not.

Whatever is killed at whatever moment: the dataset is either as it was or as the job's end says, for both are
written in one transaction. The archive is deleted after it, when nobody can need it again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.dataset.errors import DatasetError
from models.dataset.ingest import ingest, ingest_unlabelled
from storage.blobs import BlobStore
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from system.scratch import scratch_folder
from workers.contract.jobs.datasets import IngestRequest
from workers.inference.verdict import Verdict, end_as_before, result_of
from workers.jobs.attempt import RunningAttempt

# Progress is for people; the database need not hear of every file.
REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class IngestJob:
    """What an ingest needs of its worker; temporary folders lie in `scratch`."""

    datasets: DatasetRegistry
    blobs: BlobStore
    scratch: Path

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.datasets, self.blobs)

    def __call__(self, attempt: RunningAttempt) -> None:
        """Raises the errors of `models.dataset`, BlobsUnavailable and OSError, LeaseLost and Interrupted."""
        request = attempt.request(IngestRequest)
        dataset = self.datasets.get(request.dataset)
        if dataset.state is DatasetState.CHECKING:
            self._check(attempt, request, dataset)
        else:
            # An attempt of the release before this one wrote its verdict and died before it ended the job.
            end_as_before(attempt, dataset)
        self.blobs.delete(request.upload)

    def _check(self, attempt: RunningAttempt, request: IngestRequest, dataset: Dataset) -> None:
        with scratch_folder(self.scratch) as scratch:
            archive, folder = scratch / "archive", scratch / "dataset"
            self.blobs.get_files([(request.upload, archive)])
            try:
                progress = progress_of(attempt)
                check = ingest_unlabelled if request.labels == "none" else ingest
                report = check(archive, folder, on_fault=request.on_fault, progress=progress, apart=True)
            except DatasetError as error:
                self.verdict.refuse(attempt, dataset, error)
                return
            self.verdict.publish(attempt, dataset, report, folder, result_of(dataset.id, report))


def progress_of(attempt: RunningAttempt) -> Callable[[str, int, int | None], None]:
    """Tells the job's progress, now and then. What is returned raises LeaseLost and Interrupted."""
    reported = 0.0

    def progress(phase: str, done: int, total: int | None) -> None:
        nonlocal reported
        attempt.check()
        if time.monotonic() - reported > REPORT_EVERY_S:
            reported = time.monotonic()
            attempt.report({"phase": phase, "done": done, "total": total})

    return progress
