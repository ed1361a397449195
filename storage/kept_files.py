"""Which files datasets share, and those that are kept of a deleted dataset until nobody shares them any more.

A revision has its own files below its own prefix, and a row for each other prefix, a *source*, below which images
of it lie. Who is deleted while others have its prefix as a source leaves it here. New users of a source come from
users of it alone, so that a prefix without one stays without.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.database import Database
from storage.tables import DatasetRow, DatasetSourceRow, KeptFilesRow


@dataclass(frozen=True)
class KeptPrefix:
    """`changed_at` is when a user of it was deleted last, or None where what nobody needs is gone since."""

    prefix: str
    changed_at: datetime | None

    @property
    def dataset(self) -> str:
        """The dataset that it was of."""
        return self.prefix.split("/")[1]


class KeptFiles:
    """The kept prefixes; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> tuple[KeptPrefix, ...]:
        """All there are."""
        with self._database.session(read_only=True) as session:
            rows = session.scalars(select(KeptFilesRow).order_by(KeptFilesRow.prefix)).all()
            return tuple(KeptPrefix(row.prefix, row.changed_at) for row in rows)

    def users(self, prefix: str) -> dict[str, str]:
        """The datasets that are ready, or being checked, and have it as a source: their states by their prefix."""
        query = select(DatasetRow.prefix, DatasetRow.state).where(_uses(prefix))
        with self._database.session(read_only=True) as session:
            return {row.prefix: row.state for row in session.execute(query)}

    def settled(self, kept: KeptPrefix, size_bytes: int) -> None:
        """What none of its users needs is deleted, so many bytes are left: unless one was deleted meanwhile."""
        same = (KeptFilesRow.prefix == kept.prefix, KeptFilesRow.changed_at == kept.changed_at)
        with self._database.session() as session:
            session.execute(update(KeptFilesRow).where(*same).values(changed_at=None, size_bytes=size_bytes))

    def forget(self, kept: KeptPrefix) -> None:
        """It is gone."""
        with self._database.session() as session:
            session.execute(delete(KeptFilesRow).where(KeptFilesRow.prefix == kept.prefix))


def sources_of(session: Session, dataset_id: str) -> tuple[str, ...]:
    query = select(DatasetSourceRow.prefix).where(DatasetSourceRow.dataset == dataset_id)
    return tuple(session.scalars(query.order_by(DatasetSourceRow.prefix)))


def set_sources(session: Session, dataset_id: str, prefixes: Collection[str]) -> None:
    """These from now on, and no others."""
    session.execute(delete(DatasetSourceRow).where(DatasetSourceRow.dataset == dataset_id))
    rows = [{"dataset": dataset_id, "prefix": prefix} for prefix in sorted(set(prefixes))]
    if rows:
        session.execute(insert(DatasetSourceRow), rows)


def keep_shared(session: Session, prefix: str, sources: Sequence[str], size_bytes: int) -> None:
    """Before the dataset of that prefix is deleted in the same transaction: it is kept where others use it, and
    its own sources are to be looked at."""
    if session.scalar(select(_has_users(prefix))):
        session.execute(insert(KeptFilesRow).values(prefix=prefix, size_bytes=size_bytes, changed_at=now()))
    kept = update(KeptFilesRow).where(KeptFilesRow.prefix.in_(sources))
    session.execute(kept.values(changed_at=now()))


def kept_bytes(owner: str) -> Select[Any]:
    """How many bytes are kept for datasets of that owner."""
    used = exists().where(_uses(KeptFilesRow.prefix), DatasetRow.owner == owner)
    return select(func.coalesce(func.sum(KeptFilesRow.size_bytes), 0)).where(used)


def _has_users(prefix: str) -> ColumnElement[bool]:
    return exists().where(_uses(prefix))


def _uses(prefix: str | SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Of a dataset: that it has the prefix as a source, and was not refused."""
    mine = select(DatasetSourceRow.dataset).where(DatasetSourceRow.prefix == prefix)
    return (DatasetRow.state != "refused") & DatasetRow.id.in_(mine)
