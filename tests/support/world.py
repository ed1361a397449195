"""What jobs of an inference worker need: a database, blobs and folders, and uploads as the gateway leaves them."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from support.colours import LABELS, picture

from models.training.interruption import Interrupted
from storage.blobs import BlobStore
from storage.clock import from_now
from storage.database import Database
from storage.datasets import Dataset, DatasetRegistry
from storage.ids import new_id
from storage.job_ledger import Attempt, Job, JobLedger
from storage.registry import ModelRegistry
from storage.tables import JobRow
from workers.jobs.attempt import JobFunction, RunningAttempt, run_attempt, take
from workers.jobs.lease import CANCELLED


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """The same files make the same archive, whenever that is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, (2026, 11, 25, 12, 0, 0))
            member.external_attr = 0o600 << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def colours_archive(per_class: int = 3, seed: int = 0) -> bytes:
    return archive_of(
        {
            f"{colour}/{i}.png": picture(colour, noise=1 + i + 100 * k + 10_000 * seed)
            for k, colour in enumerate(LABELS)
            for i in range(per_class)
        }
    )


@dataclass
class World:
    folder: Path
    database: Database

    def __post_init__(self) -> None:
        self.ledger = JobLedger(self.database)
        self.datasets = DatasetRegistry(self.database)
        self.registry = ModelRegistry(self.database)
        self.blobs = BlobStore(str(self.folder / "blobs"))

    def upload(self, archive: bytes, **request: Any) -> tuple[Job, Dataset]:
        """As the gateway leaves an upload: blob, dataset and job."""
        job_id, dataset_id = new_id("job"), new_id("ds")
        self.blobs.put_bytes(f"jobs/{job_id}/upload", archive)
        dataset = self.datasets.add(
            "colours", dataset_id=dataset_id, prefix=f"datasets/{dataset_id}", job_id=job_id
        )
        asked = {"dataset": dataset_id, "upload": f"jobs/{job_id}/upload", "name": "colours", "on_fault": "skip"}
        return self.ledger.create("ingest", {**asked, **request}, job_id=job_id), dataset

    def take(self, job: Job, worker: str = "here") -> Attempt:
        attempt = take(self.ledger, job.id, worker, 30)
        assert attempt is not None
        return attempt

    def expire(self) -> None:
        """As if every holder had been silent for longer than its lease."""
        with self.database.session() as session:
            session.execute(update(JobRow).values(lease_until=from_now(-1)))

    def overtake(self, job: Job, worker: str) -> Attempt:
        """Take a job whose holder goes on, and may renew its lease once more before it is taken."""
        for _ in range(100):
            self.expire()
            if attempt := take(self.ledger, job.id, worker, 30):
                return attempt
        raise AssertionError("the holder renews its lease quicker than anybody can take it")

    def run(self, job: Job, work: JobFunction, attempt: Attempt | None = None) -> Job:
        run_attempt(self.ledger, attempt or self.take(job), work, lease_s=30)
        return self.ledger.get(job.id)


def cancel_at_check(number: int, world: World, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is cancelled, and hears of it at that one of its checks."""
    checks = 0

    def hear(self: RunningAttempt) -> None:
        nonlocal checks
        checks += 1
        if checks == number:
            world.ledger.request_cancel(job.id)
            raise Interrupted(CANCELLED)

    monkeypatch.setattr(RunningAttempt, "check", hear)
