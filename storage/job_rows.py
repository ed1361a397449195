"""The rows of jobs: which may be taken, who holds one, how one is changed, and what ends with it.

`storage.job_ledger` has the rules; here they are conditions and conditional UPDATEs.
"""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.errors import LeaseLost, NotFound
from storage.events import record_state
from storage.job import Attempt, JobState
from storage.outbox import tell_webhooks
from storage.tables import DatasetRow, JobRow
from storage.text import equals, is_text

ATTEMPTS_EXHAUSTED = "attempts_exhausted"

ACTIVE = JobRow.state.in_((JobState.QUEUED, JobState.RUNNING))
EXPIRED = and_(JobRow.state == JobState.RUNNING, JobRow.lease_until < now())
# Waits for a worker; there are also those that wait for a dataset, in `storage.waiting`.
QUEUED = and_(JobRow.state == JobState.QUEUED, JobRow.waits_for.is_(None))
# May be taken: it waits, or whoever held it has gone silent.
TAKEABLE = or_(QUEUED, EXPIRED)


def has_id(job_id: str) -> ColumnElement[bool]:
    return equals(JobRow.id, job_id)


def held_by(attempt: Attempt) -> ColumnElement[bool]:
    return and_(has_id(attempt.job.id), JobRow.state == JobState.RUNNING, JobRow.token == attempt.token)


def names_dataset(dataset_id: str) -> ColumnElement[bool]:
    """The jobs that have not ended and name the dataset, or wait for one that turned out to be its duplicate."""
    same = or_(DatasetRow.id == dataset_id, DatasetRow.duplicate_of == dataset_id)
    return and_(ACTIVE, JobRow.dataset.in_(select(DatasetRow.id).where(same)))


def skipping_locked(where: ColumnElement[bool]) -> Any:
    """The ids of such jobs, leaving out those that another transaction is changing right now (PostgreSQL)."""
    return select(JobRow.id).where(where).order_by(JobRow.id).with_for_update(skip_locked=True)


def require_job(session: Session, job_id: str) -> JobRow:
    row = session.get(JobRow, job_id) if is_text(job_id) else None
    if row is None:
        raise NotFound("job", job_id)
    return row


def lock_held(session: Session, attempt: Attempt) -> None:
    """Lock the job's row while this attempt holds it, so that nobody takes the job before the commit.

    Raises LeaseLost.
    """
    if session.scalar(select(JobRow.id).where(held_by(attempt)).with_for_update()) is None:
        raise LeaseLost(attempt.job.id)


class LockedDataset(NamedTuple):
    """Without its report, which may have 50 MB. `job_id` is the job that checks it."""

    id: str
    state: str
    job_id: str | None
    duplicate_of: str | None


def lock_dataset(session: Session, dataset: str) -> LockedDataset | None:
    """Keep an uploaded dataset from being deleted until the job that names it is committed."""
    row = select(DatasetRow.id, DatasetRow.state, DatasetRow.job_id, DatasetRow.duplicate_of)
    row = row.where(DatasetRow.id == dataset).with_for_update(read=True, key_share=True)
    found = session.execute(row).one_or_none()
    return LockedDataset(*found) if found else None


def update_job(session: Session, where: ColumnElement[bool], **values: Any) -> JobRow | None:
    """Update the one job, if it is such a job, and count an event, which the caller then records."""
    changed = update(JobRow).where(where).values(events=JobRow.events + 1, **values).returning(JobRow)
    return session.scalars(changed).one_or_none()


def state_changed(session: Session, job: JobRow) -> None:
    """Record the job's new state; in the same transaction its end is told, and what hangs on it ends."""
    record_state(session, job)
    if JobState(job.state).is_terminal:
        tell_webhooks(session, job)
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        _refuse_unchecked_dataset(session, job)


def end_abandoned(session: Session, where: ColumnElement[bool]) -> None:
    """End those of the jobs that nobody holds and nobody may take again."""
    ended = {"finished_at": now(), "token": None, "events": JobRow.events + 1}
    cancel = update(JobRow).where(where, EXPIRED, JobRow.cancel_requested)
    cancel = cancel.values(state=JobState.CANCELLED, error=None, lease_until=None, **ended)
    for row in session.scalars(cancel.returning(JobRow)).all():
        state_changed(session, row)
    fail = update(JobRow).where(where, EXPIRED, JobRow.attempt >= JobRow.max_attempts)
    fail = fail.values(state=JobState.FAILED, **ended)
    for row in session.scalars(fail.returning(JobRow)).all():
        row.error = exhausted(row.attempt, f"The last one, by worker {row.worker}, went silent: {_silence(row)}")
        row.lease_until = None
        session.flush()
        state_changed(session, row)


def exhausted(attempts: int, last: str) -> dict[str, Any]:
    return {"code": ATTEMPTS_EXHAUSTED, "detail": f"Given up after {attempts} attempts. {last}"}


def _silence(row: JobRow) -> str:
    until = f"its lease ended at {row.lease_until:%Y-%m-%dT%H:%M:%SZ}."
    return until if row.error is None else f"{until} The error before that: {row.error['detail']}"


def _refuse_unchecked_dataset(session: Session, job: JobRow) -> None:
    """A dataset whose check ended without a verdict would be `checking` for ever.

    Nothing is written where the check had a verdict, which its attempt wrote in this or an earlier transaction.
    """
    if job.dataset is None or job.waits_for is not None:
        return
    reason = "The check was cancelled." if job.error is None else f"The check failed: {job.error['detail']}"
    session.execute(
        update(DatasetRow)
        .where(
            DatasetRow.id == job.dataset,
            DatasetRow.state == "checking",
            # The release before this one did not write which job checks a dataset.
            or_(DatasetRow.job_id == job.id, DatasetRow.job_id.is_(None)),
        )
        .values(state="refused", report={"refusals": [reason]})
    )
