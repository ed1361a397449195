"""An ingest job: an uploaded archive becomes a dataset that is ready, or its report says why not.

Whatever is killed at whatever moment: the dataset is either as it was or as the job's end says, for both are
written in one transaction. The archive is deleted after it, when nobody can need it again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.dataset.errors import DatasetError, DatasetRefused
from models.dataset.folder import MANIFEST
from models.dataset.ingest import ingest, ingest_unlabelled
from models.dataset.report import Report
from models.training.interruption import Interrupted
from storage.blobs import BlobStore
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from storage.errors import Conflict, LeaseLost
from system.scratch import scratch_folder
from workers.contract.jobs import IngestRequest, IngestResult
from workers.jobs.attempt import RunningAttempt

# Progress is for people; the database need not hear of every file.
REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class IngestJob:
    """What an ingest needs of its worker; temporary folders lie in `scratch`."""

    datasets: DatasetRegistry
    blobs: BlobStore
    scratch: Path

    def __call__(self, attempt: RunningAttempt) -> None:
        """Raises the errors of `models.dataset`, BlobsUnavailable and OSError, LeaseLost and Interrupted."""
        request = attempt.request(IngestRequest)
        dataset = self.datasets.get(request.dataset)
        if dataset.state is DatasetState.CHECKING:
            self._check(attempt, request, dataset)
        else:
            # An attempt of the release before this one wrote its verdict and died before it ended the job.
            _end_as_before(attempt, dataset)
        self.blobs.delete(request.upload)

    def _check(self, attempt: RunningAttempt, request: IngestRequest, dataset: Dataset) -> None:
        with scratch_folder(self.scratch) as scratch:
            archive, folder = scratch / "archive", scratch / "dataset"
            self.blobs.get_files([(request.upload, archive)])
            try:
                progress = _progress_of(attempt)
                check = ingest_unlabelled if request.labels == "none" else ingest
                report = check(archive, folder, on_fault=request.on_fault, progress=progress, apart=True)
            except DatasetError as error:
                self._refuse(attempt, dataset, error)
                return
            self._publish(attempt, dataset, report, folder)

    def _refuse(self, attempt: RunningAttempt, dataset: Dataset, error: DatasetError) -> None:
        refusals = {"refusals": [str(error)]}
        report = error.report.to_dict() if isinstance(error, DatasetRefused) else refusals
        with attempt.transaction() as transaction:
            self.datasets.record_check(dataset.id, DatasetState.REFUSED, report=report, within=transaction)
            attempt.fail(error, within=transaction)
        # Of an attempt that came further and was killed.
        self.blobs.delete_prefix(f"datasets/{dataset.id}")

    def _publish(self, attempt: RunningAttempt, dataset: Dataset, report: Report, folder: Path) -> None:
        """Under a prefix of this attempt's own, which no other attempt writes into."""
        prefix = f"datasets/{dataset.id}/{attempt.short_id}"
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self.blobs.put_folder(prefix, folder, last=MANIFEST)
        try:
            with attempt.transaction() as transaction:
                self.datasets.record_check(
                    dataset.id,
                    DatasetState.READY,
                    content_hash=report.content_hash,
                    labels=report.labels,
                    counts=report.counts,
                    report=report.to_dict(),
                    size_bytes=size_bytes,
                    prefix=prefix,
                    within=transaction,
                )
                attempt.succeed(_result(dataset.id, report), within=transaction)
        except Conflict:
            self._end_as_duplicate(attempt, dataset, report)
            self.blobs.delete_prefix(f"datasets/{dataset.id}")
        except (LeaseLost, Interrupted):
            self.blobs.delete_prefix(prefix)
            raise
        else:
            self.blobs.delete_other_folders(prefix)

    def _end_as_duplicate(self, attempt: RunningAttempt, dataset: Dataset, report: Report) -> None:
        """The content is that of a dataset that is ready: from now on the new id leads to that one."""
        with attempt.transaction() as transaction:
            original = self.datasets.find_by_hash(report.content_hash or "", within=transaction)
            if original is None:
                raise Conflict("A dataset of the same content was deleted in this very moment; send it again.")
            self.datasets.record_duplicate(dataset.id, original.id, within=transaction)
            attempt.succeed(_result(original.id, report, duplicate_of=original.id), within=transaction)


def _end_as_before(attempt: RunningAttempt, dataset: Dataset) -> None:
    if dataset.state is DatasetState.READY:
        attempt.succeed(IngestResult(dataset=dataset.id, images=int(dataset.report.get("images", 0))))
    else:
        attempt.fail(DatasetError("; ".join(dataset.report.get("refusals", ["The dataset was refused."]))))


def _result(dataset_id: str, report: Report, duplicate_of: str | None = None) -> IngestResult:
    return IngestResult(
        dataset=dataset_id, images=report.images, faults=report.faults_by_code(), duplicate_of=duplicate_of
    )


def _progress_of(attempt: RunningAttempt) -> Callable[[str, int, int | None], None]:
    reported = 0.0

    def progress(phase: str, done: int, total: int | None) -> None:
        nonlocal reported
        attempt.check()
        if time.monotonic() - reported > REPORT_EVERY_S:
            reported = time.monotonic()
            attempt.report({"phase": phase, "done": done, "total": total})

    return progress
