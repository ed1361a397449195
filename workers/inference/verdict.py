"""What becomes of a dataset that was checked: ready, refused, or another id of one that is there already.

Whatever is killed at whatever moment: the dataset is either as it was or as the job's end says, for both are
written in one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.dataset.errors import DatasetError, DatasetRefused
from models.dataset.places import MANIFEST
from models.dataset.report import Report
from models.training.interruption import Interrupted
from storage.blobs import BlobStore
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from storage.errors import Conflict, LeaseLost
from workers.contract.jobs.datasets import IngestResult
from workers.jobs.attempt import RunningAttempt


@dataclass(frozen=True)
class Verdict:
    """Writes it down, with the end of the job that came to it."""

    datasets: DatasetRegistry
    blobs: BlobStore

    def refuse(self, attempt: RunningAttempt, dataset: Dataset, error: DatasetError) -> None:
        """Raises BlobsUnavailable, LeaseLost and Interrupted."""
        refusals = {"refusals": [str(error)]}
        report = error.report.to_dict() if isinstance(error, DatasetRefused) else refusals
        with attempt.transaction() as transaction:
            self.datasets.record_check(dataset.id, DatasetState.REFUSED, report=report, within=transaction)
            attempt.fail(error, within=transaction)
        # Of an attempt that came further and was killed.
        self.blobs.delete_prefix(f"datasets/{dataset.id}")

    def publish(
        self,
        attempt: RunningAttempt,
        dataset: Dataset,
        report: Report,
        folder: Path,
        result: IngestResult,
        sources: Sequence[str] = (),
    ) -> None:
        """Under a prefix of this attempt's own, which no other attempt writes into. `sources` are the prefixes of
        the files that `folder` lacks.

        Raises BlobsUnavailable, LeaseLost and Interrupted, and Conflict where another attempt may do better.
        """
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
                    sources=sources,
                    within=transaction,
                )
                attempt.succeed(result, within=transaction)
        except Conflict:
            self._end_as_duplicate(attempt, dataset, report, result)
            self.blobs.delete_prefix(f"datasets/{dataset.id}")
        except (LeaseLost, Interrupted):
            self.blobs.delete_prefix(prefix)
            raise
        else:
            self.blobs.delete_other_folders(prefix)

    def _end_as_duplicate(
        self, attempt: RunningAttempt, dataset: Dataset, report: Report, result: IngestResult
    ) -> None:
        """The content is that of a dataset that is ready: from now on the new id leads to that one."""
        with attempt.transaction() as transaction:
            original = self.datasets.find_by_hash(report.content_hash or "", within=transaction)
            if original is None:
                raise Conflict("A dataset of the same content was deleted in this very moment; send it again.")
            self.datasets.record_duplicate(dataset.id, original.id, within=transaction)
            led = {"dataset": original.id, "duplicate_of": original.id}
            attempt.succeed(result.model_copy(update=led), within=transaction)


def end_as_before(attempt: RunningAttempt, dataset: Dataset) -> None:
    """By a verdict that stands already. Raises LeaseLost."""
    if dataset.state is DatasetState.READY:
        attempt.succeed(IngestResult(dataset=dataset.id, images=int(dataset.report.get("images", 0))))
    else:
        attempt.fail(DatasetError("; ".join(dataset.report.get("refusals", ["The dataset was refused."]))))


def result_of(dataset_id: str, report: Report) -> IngestResult:
    return IngestResult(dataset=dataset_id, images=report.images, faults=report.faults_by_code())
