"""Deletes what nobody needs any more: old jobs, the files of ended ones, and what killed writers left."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from service.shared_files import SharedFiles
from storage.audit import AuditLog
from storage.blobs import BlobStore
from storage.datasets import DatasetRegistry, DatasetState
from storage.errors import NotFound, StorageError
from storage.ids import made_at
from storage.job import Job, JobState
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry
from storage.sketches import SketchBook
from system.scratch import remove_old, sweep_scratch
from workers.contract.queues import JobKind

# The files of a job come before its row, and a row of the first release before its job; nothing takes longer.
WITHOUT_JOB = timedelta(days=1)
WRITES_ARTIFACT = (JobKind.FINETUNE, JobKind.PUBLISH, JobKind.VARIANTS)
MAKES_DATASET = (JobKind.INGEST, JobKind.REVISE)
# Whose files are what came of them: they go with the job's record.
KEEPS_RESULTS = (JobKind.CLASSIFY_MANY, JobKind.EVALUATE)
# Where the first release kept what is under `jobs/ID/` now.
FIRST_RELEASE_PREFIXES = ("classify", "uploads")
LISTED = 200
log = structlog.get_logger()


@dataclass
class Cleanup:
    """`keep_jobs` is how long the record of an ended job stays, `keep_images` the images of an ended classify job,
    `keep_audit` an entry of the audit log, `keep_sketches` an hour's sketch of what versions answered.

    `uploads` is the folder that bodies are received in.
    """

    ledger: JobLedger
    datasets: DatasetRegistry
    registry: ModelRegistry
    blobs: BlobStore
    uploads: Path
    keep_jobs: timedelta
    keep_images: timedelta
    audit: AuditLog
    keep_audit: timedelta
    sketches: SketchBook
    keep_sketches: timedelta
    _unnamed: set[str] = field(default_factory=set, init=False)
    _orphans: set[str] = field(default_factory=set, init=False)

    @property
    def shared_files(self) -> SharedFiles:
        return SharedFiles(self.datasets, self.blobs)

    async def run(self, interval_s: float) -> None:
        """Again and again until cancelled; what cannot be reached is left for the next time."""
        steps = (
            self.prune_jobs,
            self.prune_audit,
            self.prune_sketches,
            self.delete_job_files,
            self.delete_files_of_the_first_release,
            self.refuse_abandoned_datasets,
            self.shared_files.settle,
            self.delete_orphans,
            self.blobs.sweep,
            self.sweep_uploads,
        )
        while True:
            for step in steps:
                try:
                    await asyncio.to_thread(step)
                except (StorageError, OSError) as error:
                    log.warning("cleanup.failed", reason=str(error))
            await asyncio.sleep(interval_s)

    def prune_jobs(self) -> None:
        self.ledger.prune(self.keep_jobs)

    def prune_audit(self) -> None:
        if pruned := self.audit.prune(self.keep_audit):
            log.info("cleanup.audit_pruned", entries=pruned)

    def prune_sketches(self) -> None:
        if pruned := self.sketches.prune(self.keep_sketches):
            log.info("cleanup.sketches_pruned", hours=pruned)

    def delete_job_files(self) -> None:
        """Uploads, images and checkpoints lie under `jobs/ID/`: they go when the job has ended or never was, the
        results of a bulk classification or an evaluation with the job's record.

        With them go the files of a version that was never registered and of a dataset that was refused.
        """
        now = datetime.now(UTC)
        for job_id in self.blobs.folders("jobs"):
            job = self._job(job_id)
            if job is None:
                is_over = now - made_at(job_id) > WITHOUT_JOB
            else:
                keep = self.keep_images if job.kind == JobKind.CLASSIFY else timedelta()
                is_over = job.finished_at is not None and now - job.finished_at >= keep
                # Its results lie there.
                is_over = is_over and job.kind not in KEEPS_RESULTS
            if is_over:
                if job is not None:
                    self._delete_unregistered(job)
                self.blobs.delete_prefix(f"jobs/{job_id}")
                log.info("cleanup.job_files_deleted", job=job_id)

    def delete_files_of_the_first_release(self) -> None:
        """Its uploads and images that no job names which has not ended: now, and at the look before this one."""
        found = {f"{prefix}/{name}" for prefix in FIRST_RELEASE_PREFIXES for name in self._names_under(prefix)}
        unnamed = found - self._named_by_active_jobs() if found else set()
        for key in unnamed & self._unnamed:
            self.blobs.delete_prefix(key)
            self.blobs.delete(key)
            log.info("cleanup.files_of_the_first_release_deleted", key=key)
        self._unnamed = unnamed

    def refuse_abandoned_datasets(self) -> None:
        if refused := self.datasets.refuse_abandoned(WITHOUT_JOB):
            log.warning("cleanup.datasets_refused", datasets=refused)

    def delete_orphans(self) -> None:
        """The files of datasets and versions that were deleted while the store was away or their gateway died, and
        those that a version had before variants were put beside its graph.

        They are nobody's now and were at the look before this one; what revisions share of a deleted dataset is
        theirs. A dataset's row comes before its files; a
        version's row comes after them, at the latest with its job's end.
        """
        datasets = {name for name in self.blobs.folders("datasets") if name.startswith("ds_")}
        artifacts = {
            f"models/{model}/{name}"
            for model in self.blobs.folders("models")
            for name in self.blobs.folders(f"models/{model}")
            if name.startswith("job_") and self._is_over(name)
        }
        if datasets:
            # In this order: what is deleted in between is kept, or nobody's.
            datasets -= self.datasets.ids()
            datasets -= {kept.dataset for kept in self.datasets.kept.list()}
        found = {f"datasets/{name}" for name in datasets}
        if artifacts:
            found |= artifacts - {"/".join(artifact.split("/")[:3]) for artifact in self.registry.artifacts()}
        for prefix in found & self._orphans:
            self.blobs.delete_prefix(prefix)
            log.info("cleanup.orphan_deleted", prefix=prefix)
        self._orphans = found

    def sweep_uploads(self) -> None:
        if self.uploads.is_dir():
            sweep_scratch(self.uploads)
            remove_old(self.uploads, "upload-*", WITHOUT_JOB.total_seconds())

    def _job(self, job_id: str) -> Job | None:
        try:
            return self.ledger.get(job_id)
        except NotFound:
            return None

    def _is_over(self, job_id: str) -> bool:
        job = self._job(job_id)
        if job is None:
            return datetime.now(UTC) - made_at(job_id) > WITHOUT_JOB
        return job.state.is_terminal

    def _delete_unregistered(self, job: Job) -> None:
        """A job of the first release may have failed after it had registered its version, which stays.

        What a job that succeeded wrote was a version's; once it is not any more, it is an orphan.
        """
        model, dataset = job.request.get("model"), job.request.get("dataset")
        files = f"models/{model}/{job.id}"
        if (
            job.kind in WRITES_ARTIFACT
            and model
            and job.state is not JobState.SUCCEEDED
            and not self.registry.has_files_of(job.id, files)
        ):
            self.blobs.delete_prefix(files)
        if job.kind in MAKES_DATASET and dataset and not self._is_ready(dataset):
            self.blobs.delete_prefix(f"datasets/{dataset}")

    def _is_ready(self, dataset_id: str) -> bool:
        """Whether it has files of its own, as a duplicate has none."""
        try:
            found = self.datasets.get(dataset_id)
        except NotFound:
            return False
        return found.id == dataset_id and found.state is DatasetState.READY

    def _names_under(self, prefix: str) -> set[str]:
        return {key.removeprefix(f"{prefix}/").partition("/")[0] for key in self.blobs.list(prefix)}

    def _named_by_active_jobs(self) -> set[str]:
        """The first two parts of every key that the request of a job names which has not ended."""
        named: set[str] = set()
        for state in (JobState.QUEUED, JobState.RUNNING):
            cursor: str | None = None
            while True:
                page = self.ledger.list(LISTED, cursor, state=state)
                for job in page.items:
                    keys = (job.request.get(name) for name in ("prefix", "upload"))
                    named |= {"/".join(key.split("/")[:2]) for key in keys if isinstance(key, str)}
                cursor = page.next_cursor
                if cursor is None:
                    break
        return named
