"""Which key a job or a dataset belongs to, and how much of either it may have."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.errors import StorageQuota, TooManyJobs
from storage.job import JobState
from storage.kept_files import kept_bytes
from storage.tables import DatasetRow, JobRow, KeyRow


@dataclass(frozen=True)
class Owner:
    """The prefix of a key, of which `most_waiting` jobs may wait and datasets have `most_bytes`; 0: any number."""

    key: str
    most_waiting: int = 0
    most_bytes: int = 0


def check_waiting(session: Session, owner: Owner) -> None:
    """Before a job of the owner is written in the same transaction. Raises TooManyJobs."""
    if owner.most_waiting:
        _lock(session, owner)
        mine = (JobRow.owner == owner.key, JobRow.state == JobState.QUEUED)
        waiting = session.scalar(select(func.count()).select_from(JobRow).where(*mine)) or 0
        if waiting >= owner.most_waiting:
            raise TooManyJobs(waiting, owner.most_waiting)


def check_bytes(session: Session, owner: Owner, added: int, *, lock: bool) -> None:
    """Whether the owner's datasets that are not refused have room for so many bytes more. Raises StorageQuota.

    Of a dataset that is being checked its upload counts, of a revision what it does not share, and what is kept of
    deleted ones for datasets of the owner. `lock` where one is added in the same transaction.
    """
    if lock:
        _lock(session, owner)
    mine = (DatasetRow.owner == owner.key, DatasetRow.state != "refused")
    stored = int(session.scalar(select(func.coalesce(func.sum(DatasetRow.size_bytes), 0)).where(*mine)) or 0)
    stored += int(session.scalar(kept_bytes(owner.key)) or 0)
    if stored + added > owner.most_bytes:
        raise StorageQuota(stored + added, owner.most_bytes)


def _lock(session: Session, owner: Owner) -> None:
    """Until the commit nobody else adds something of the owner, so that two at once do not both find room."""
    session.execute(select(KeyRow.prefix).where(KeyRow.prefix == owner.key).with_for_update())
