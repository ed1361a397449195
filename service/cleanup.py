"""Deletes what nobody needs any more: old jobs, the files of ended ones, and what killed writers left."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from storage.blobs import BlobStore
from storage.errors import NotFound, StorageError
from storage.ids import made_at
from storage.job import Job
from storage.job_ledger import JobLedger
from system.scratch import sweep_scratch
from workers.contract.queues import JobKind

# The files of a job come before its row; no upload takes longer.
FILES_WITHOUT_JOB = timedelta(days=1)
MAKES_VERSION = (JobKind.FINETUNE, JobKind.PUBLISH)
log = structlog.get_logger()


@dataclass(frozen=True)
class Cleanup:
    """`keep_jobs` is how long the record of an ended job stays, `keep_images` the images of an ended classify job.

    `uploads` is the folder that bodies are received in.
    """

    ledger: JobLedger
    blobs: BlobStore
    uploads: Path
    keep_jobs: timedelta
    keep_images: timedelta

    async def run(self, interval_s: float) -> None:
        """Again and again until cancelled; what cannot be reached is left for the next time."""
        while True:
            for step in (self.prune_jobs, self.delete_job_files, self.blobs.sweep, self.sweep_uploads):
                try:
                    await asyncio.to_thread(step)
                except (StorageError, OSError) as error:
                    log.warning("cleanup.failed", reason=str(error))
            await asyncio.sleep(interval_s)

    def prune_jobs(self) -> None:
        self.ledger.prune(self.keep_jobs)

    def delete_job_files(self) -> None:
        """Uploads, images and checkpoints lie under `jobs/ID/`: they go when the job has ended or never was.

        With them go the files of a version that was never registered.
        """
        now = datetime.now(UTC)
        for job_id in self.blobs.folders("jobs"):
            job = self._job(job_id)
            if job is None:
                is_over = now - made_at(job_id) > FILES_WITHOUT_JOB
            else:
                keep = self.keep_images if job.kind == JobKind.CLASSIFY else timedelta()
                is_over = job.finished_at is not None and now - job.finished_at >= keep
            if is_over:
                if job and job.kind in MAKES_VERSION and job.result is None:
                    self.blobs.delete_prefix(f"models/{job.request['model']}/{job_id}")
                self.blobs.delete_prefix(f"jobs/{job_id}")
                log.info("cleanup.job_files_deleted", job=job_id)

    def sweep_uploads(self) -> None:
        if self.uploads.is_dir():
            sweep_scratch(self.uploads)

    def _job(self, job_id: str) -> Job | None:
        try:
            return self.ledger.get(job_id)
        except NotFound:
            return None
