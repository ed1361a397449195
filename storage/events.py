"""Writing down what happens to jobs. A job's events are numbered by its row, which the writer has just changed."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, delete, insert
from sqlalchemy.orm import Session

from storage.clock import now
from storage.job import JobState
from storage.tables import EventRow, JobRow

# About this many progress events are kept of each job, the newest; changes of state are all kept.
PROGRESS_KEPT = 1000
_PRUNE_EVERY = 100


def record_event(session: Session, job: JobRow, kind: str, data: Mapping[str, Any]) -> None:
    """Write an event under the number that the job's row counts to."""
    event = insert(EventRow).values(job_id=job.id, number=job.events, at=now(), kind=kind, data=dict(data))
    session.execute(event)


def record_state(session: Session, job: JobRow) -> None:
    """Record the job's new state; with the error, when an attempt has just failed."""
    data: dict[str, Any] = {"state": job.state, "attempt": job.attempt}
    if job.error is not None and job.state in (JobState.FAILED, JobState.QUEUED):
        data["error"] = job.error
    record_event(session, job, "state", data)


def record_progress(session: Session, job: JobRow) -> None:
    record_event(session, job, "progress", job.progress)
    if job.events % _PRUNE_EVERY == 0:
        forgotten = and_(EventRow.job_id == job.id, EventRow.number <= job.events - PROGRESS_KEPT)
        session.execute(delete(EventRow).where(forgotten, EventRow.kind == "progress"))
