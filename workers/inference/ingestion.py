"""An ingest job: an uploaded archive becomes a dataset on the shelf, or its report says why not."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.dataset.errors import DatasetRefused
from models.dataset.folder import MANIFEST, sweep
from models.dataset.ingest import ingest
from models.dataset.report import Report
from storage.blobs import BlobStore
from storage.datasets import DatasetRegistry, DatasetState
from storage.errors import Conflict, LeaseLost
from workers.inference.bulk import Held

# Progress is for people; the database need not hear of every file.
SAY_EVERY_S = 0.5


@dataclass(frozen=True)
class Ingestion:
    """The request names the `dataset`, the blob of its `upload` and what is done `on_fault`."""

    shelf: DatasetRegistry
    blobs: BlobStore
    scratch: Path

    def __call__(self, held: Held) -> dict[str, Any]:
        """The job's result: the dataset's id, and what was found in short. Nothing half-done remains."""
        dataset_id: str = held.request["dataset"]
        prefix = self.shelf.get(dataset_id).prefix
        self.scratch.mkdir(parents=True, exist_ok=True)
        sweep(self.scratch)
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="ingest-") as folder:
            try:
                source = self._fetch(held.request["upload"], Path(folder))
                destination = Path(folder) / "dataset"
                report = ingest(source, destination, on_fault=held.request["on_fault"], progress=_teller(held))
                self.blobs.put_folder(prefix, destination, last=MANIFEST)
                self._settle(dataset_id, report, destination)
            except LeaseLost:
                raise
            except Exception as error:
                if held.may_pass(error):
                    raise
                self._refuse(dataset_id, error)
                self.blobs.delete(held.request["upload"])
                raise
        self.blobs.delete(held.request["upload"])
        return {"dataset": dataset_id, "images": report.images, "faults": report.faults_by_code()}

    def _fetch(self, key: str, folder: Path) -> Path:
        source = folder / "source"
        with self.blobs.open(key) as stored, source.open("wb") as copy:
            shutil.copyfileobj(stored, copy, 4 * 2**20)
        return source

    def _settle(self, dataset_id: str, report: Report, folder: Path) -> None:
        try:
            self.datasets.record_check(
                dataset_id,
                DatasetState.READY,
                content_hash=report.content_hash,
                labels=report.labels,
                counts=report.counts,
                report=report.to_dict(),
                size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            )
        except Conflict:
            same = self.shelf.find_by_hash(report.content_hash or "")
            if same is None or same.id == dataset_id:
                raise
            self.blobs.delete_prefix(self.shelf.get(dataset_id).prefix)
            raise SameContent(same.id, same.name) from None

    def _refuse(self, dataset_id: str, error: Exception) -> None:
        """Say on the shelf why it will never be ready; the job's error says it too."""
        report: dict[str, Any] = {"refusals": [str(error) or type(error).__name__]}
        if isinstance(error, DatasetRefused):
            report = error.report.to_dict()
        elif isinstance(error, SameContent):
            report["duplicate_of"] = error.dataset_id
        self.datasets.record_check(dataset_id, DatasetState.REFUSED, report=report)


class SameContent(Conflict):
    """The images and labels are those of a dataset that is ready; that one is to be used."""

    def __init__(self, dataset_id: str, name: str) -> None:
        super().__init__(f"The same images and labels are dataset {dataset_id} ({name}) already; use that one.")
        self.dataset_id = dataset_id


def _teller(held: Held) -> Any:
    said = 0.0

    def tell(phase: str, done: int, total: int | None) -> None:
        nonlocal said
        held.check()
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            held.progress(phase=phase, done=done, total=total)

    return tell
