"""Jobs that wait for the check of the dataset that they name: nobody takes one before the check has a verdict."""

from typing import Any

from sqlalchemy import and_, exists, not_, select
from sqlalchemy.orm import Session

from storage.clock import now
from storage.events import record_progress
from storage.job import Job, JobState
from storage.job_rows import LockedDataset, lock_dataset, state_changed
from storage.tables import DatasetRow, JobRow

PHASE = "waiting for the dataset"
DATASET_REFUSED, NOT_FOUND = "dataset_refused", "not_found"

_IS_CHECKED = exists().where(DatasetRow.id == JobRow.waits_for, DatasetRow.state == "checking")
# Those that wait although there is nothing to wait for any more.
OVER = and_(JobRow.state == JobState.QUEUED, JobRow.waits_for.is_not(None), not_(_IS_CHECKED))


def tell_that_it_waits(session: Session, job: JobRow) -> None:
    """As a phase of its progress, where people look for what a job is doing."""
    job.progress = {"phase": PHASE}
    job.events += 1
    session.flush()
    record_progress(session, job)


def release(session: Session) -> list[Job]:
    """Those to be sent now; those whose dataset cannot be used have failed. Only one caller releases a job."""
    over = select(JobRow).where(OVER).order_by(JobRow.id).with_for_update(skip_locked=True)
    return [Job.from_row(row) for row in session.scalars(over).all() if _release(session, row)]


def _release(session: Session, row: JobRow) -> bool:
    """Whether it can begin now, with the dataset that its own may be a duplicate of; else it has failed."""
    given = str(row.waits_for)
    dataset = lock_dataset(session, given)
    if dataset is not None and dataset.duplicate_of is not None:
        dataset = lock_dataset(session, dataset.duplicate_of)
    row.events += 1
    row.progress = {}
    if dataset is not None and dataset.state == "ready":
        row.waits_for = None
        row.dataset = dataset.id
        row.request = {**row.request, "dataset": dataset.id}
        row.queued_at = now()
    else:
        row.state = JobState.FAILED
        row.error = _error(session, given, dataset)
        row.finished_at = now()
    session.flush()
    state_changed(session, row)
    return row.state == JobState.QUEUED


def _error(session: Session, given: str, dataset: LockedDataset | None) -> dict[str, Any]:
    if dataset is None:
        return {"code": NOT_FOUND, "detail": f"Dataset {given} was deleted while the job waited for its check."}
    report = session.scalar(select(DatasetRow.report).where(DatasetRow.id == dataset.id)) or {}
    why = "; ".join(report.get("refusals", ["see its report"]))
    return {"code": DATASET_REFUSED, "detail": f"Dataset {given} was refused: {why}"}
