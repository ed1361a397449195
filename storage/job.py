"""What a job is: its state, the attempt that holds it, its events. The rules are in `storage.job_ledger`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from storage.tables import EventRow, JobRow


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Job:
    """Durable work, as it was when it was read.

    `error` is `{"code", "detail"}`: of a failed job why it failed, of one that waits for its next attempt why the
    last one failed. `attempt` counts from 1; 0 before the first. `started_at` is the first attempt's.
    `waits_for` is the dataset before whose check it does not begin.
    """

    id: str
    kind: str
    state: JobState
    request: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    progress: dict[str, Any]
    attempt: int
    max_attempts: int
    cancel_requested: bool
    on_cancel: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    lease_until: datetime | None
    worker: str | None
    request_id: str | None
    traceparent: str | None
    waits_for: str | None

    @classmethod
    def from_row(cls, row: JobRow) -> "Job":
        return cls(
            id=row.id,
            kind=row.kind,
            state=JobState(row.state),
            request=row.request,
            result=row.result,
            error=row.error,
            progress=row.progress,
            attempt=row.attempt,
            max_attempts=row.max_attempts,
            cancel_requested=row.cancel_requested,
            on_cancel=row.on_cancel,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            lease_until=row.lease_until,
            worker=row.worker,
            request_id=row.request_id,
            traceparent=row.traceparent,
            waits_for=row.waits_for,
        )


@dataclass(frozen=True)
class JobCount:
    """How many jobs of a kind are in a state; `oldest_s` is how long ago the first of them was queued."""

    kind: str
    state: JobState
    jobs: int
    oldest_s: float


@dataclass(frozen=True)
class Attempt:
    """One run of a job by one worker: the job as it was taken, and the token that fences every write."""

    job: Job
    token: str


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `id` counts 1, 2, 3 ... within the job.

    `kind` is `state` (`data` has the new state and the attempt), `progress` (`data` is what the attempt reported)
    or `cancel_requested`.
    """

    id: int
    job_id: str
    at: datetime
    kind: str
    data: dict[str, Any]

    @classmethod
    def from_row(cls, row: EventRow) -> "Event":
        return cls(row.number, row.job_id, row.at, row.kind, row.data)


@dataclass(frozen=True)
class Idempotency:
    """A client's key for one request: `scope` is whose and which call, `fingerprint` a digest of it."""

    scope: str
    key: str
    fingerprint: str
