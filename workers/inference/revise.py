"""A revise job: a dataset with changes becomes another one, which shares the files of the images that stay.

The parent stays as it is, and cannot be deleted before the job's end. Decodes the added images and no other.
"""

from dataclasses import dataclass
from pathlib import Path

from models.dataset.errors import DatasetError
from models.dataset.folder import DatasetFolder
from models.dataset.places import FILES
from models.dataset.report import Report
from models.dataset.revise import Parent, revise
from storage.blobs import BlobStore
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from system.scratch import scratch_folder
from workers.contract.jobs.datasets import ReviseRequest, ReviseResult
from workers.contract.revisions import RevisionOptions
from workers.inference.ingest import progress_of
from workers.inference.labelled import LabelledDatasets
from workers.inference.verdict import Verdict, end_as_before
from workers.jobs.attempt import RunningAttempt


@dataclass(frozen=True)
class ReviseJob:
    """What a revision needs of its worker; temporary folders lie in `scratch`."""

    datasets: DatasetRegistry
    blobs: BlobStore
    scratch: Path

    def __call__(self, attempt: RunningAttempt) -> None:
        """Raises the errors of `models.dataset`, BlobsUnavailable and OSError, LeaseLost and Interrupted."""
        request = attempt.request(ReviseRequest)
        dataset = self.datasets.get(request.dataset)
        if dataset.state is DatasetState.CHECKING:
            self._revise(attempt, request, dataset)
        else:
            end_as_before(attempt, dataset)
        for key in filter(None, (request.upload, request.changes)):
            self.blobs.delete(key)

    def _revise(self, attempt: RunningAttempt, request: ReviseRequest, dataset: Dataset) -> None:
        verdict = Verdict(self.datasets, self.blobs)
        attempt.report({"phase": "revising"})
        options = RevisionOptions.model_validate_json(self.blobs.get_bytes(request.changes))
        parent = LabelledDatasets(self.datasets, self.blobs, self.scratch).open(request.parent)
        located = {name.rpartition("/")[2]: file for name, file in parent.pictures.items()}
        sizes = {sha256: file.bytes for sha256, file in located.items()}
        with scratch_folder(self.scratch) as scratch:
            archive, folder = scratch / "archive", scratch / "dataset"
            if request.upload:
                self.blobs.get_files([(request.upload, archive)])
            try:
                report = revise(
                    Parent(parent.id, parent.revision, parent.folder, sizes),
                    options.changes,
                    folder,
                    added=archive if request.upload else None,
                    on_fault=request.on_fault,
                    progress=progress_of(attempt),
                    apart=True,
                )
            except DatasetError as error:
                verdict.refuse(attempt, dataset, error)
                return
            own = {path.name for path in (folder / FILES).rglob("*") if path.is_file()}
            shared = {sample.sha256 for sample in DatasetFolder.open(folder).samples} - own
            sources = sorted({located[sha256].prefix for sha256 in shared})
            verdict.publish(attempt, dataset, report, folder, _result(dataset.id, parent.id, report), sources)


def _result(dataset_id: str, parent: str, report: Report) -> ReviseResult:
    changed = report.revision or {}
    return ReviseResult(
        dataset=dataset_id,
        images=report.images,
        faults=report.faults_by_code(),
        parent=parent,
        relabelled=sum(change["images"] for change in changed.get("relabelled", ())),
        removed=sum(changed.get("removed", {}).values()),
        moved=sum(change["images"] for change in changed.get("moved", ())),
        added=sum(changed.get("added", {}).values()),
    )
