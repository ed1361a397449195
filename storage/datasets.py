"""The uploaded datasets: one row for each, its files among the blobs. Knows no image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, insert, not_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.audit import record
from storage.clock import from_now, now
from storage.database import Database, Transaction
from storage.errors import Conflict, InUse, NotFound
from storage.ids import new_id
from storage.job_rows import ACTIVE, lock_dataset, names_dataset
from storage.kept_files import KeptFiles, keep_shared, set_sources, sources_of
from storage.owner import Owner, check_bytes
from storage.page import Page, bounded, decode_cursor, encode_cursor
from storage.tables import DatasetRow, JobRow
from storage.text import check_title, contains, equals, is_text


class DatasetState(StrEnum):
    """`checking` until every image was decoded once; then `ready`, or `refused` for the faults in its report."""

    CHECKING = "checking"
    READY = "ready"
    REFUSED = "refused"


@dataclass(frozen=True)
class Dataset:
    """`counts` is the number of images by label and split, in the form that the caller gave it.

    `prefix` is where its files lie among the blobs, `job_id` the job that checked it. `duplicate_of` is set
    only in what `record_duplicate` returns: every other call answers with the dataset of the same content.

    A revision was made of its `parent`, which may be gone, as may the first of its family, its `root`; `revision`
    is its number in the line, from 1. Below `sources` lie those of its files that it shares.
    """

    id: str
    name: str
    content_hash: str | None
    state: DatasetState
    prefix: str
    labels: tuple[str, ...]
    counts: dict[str, Any]
    report: dict[str, Any]
    size_bytes: int
    created_at: datetime
    job_id: str | None
    duplicate_of: str | None
    parent: str | None
    root: str
    revision: int
    sources: tuple[str, ...]


class DatasetRegistry:
    """The datasets; every call is one transaction, or part of the one that it is given as `within`.

    Of ready ones no two have the same content hash. What was uploaded twice is one dataset with two ids, of which
    the second leads to the first.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.kept = KeptFiles(database)

    def add(
        self,
        name: str,
        *,
        prefix: str,
        dataset_id: str | None = None,
        content_hash: str | None = None,
        state: DatasetState = DatasetState.CHECKING,
        labels: Sequence[str] = (),
        counts: Mapping[str, Any] | None = None,
        report: Mapping[str, Any] | None = None,
        size_bytes: int = 0,
        job_id: str | None = None,
        owner: Owner | None = None,
        parent: Dataset | None = None,
        within: Transaction | None = None,
    ) -> Dataset:
        """A new dataset. `dataset_id` is for a caller whose prefix contains it: `new_id("ds")`. With a `parent` it
        is a revision of that one, which nobody can delete until this one is checked.

        Raises InvalidName, NotFound where the parent is gone, and Conflict when there is a dataset of that id or a
        ready one of that content, which `find_by_hash` finds.
        """
        check_title(name)
        row = insert(DatasetRow).values(
            id=dataset_id or new_id("ds"),
            name=name,
            content_hash=content_hash,
            state=state,
            prefix=prefix,
            labels=list(labels),
            counts=dict(counts or {}),
            report=dict(report or {}),
            size_bytes=size_bytes,
            job_id=job_id,
            created_at=now(),
            owner=owner and owner.key,
            parent=parent and parent.id,
            root=parent and parent.root,
            revision=parent and parent.revision + 1,
        )
        try:
            with self._database.session(within=within) as session:
                if parent is not None and lock_dataset(session, parent.id) is None:
                    raise NotFound("dataset", parent.id)
                added = session.scalars(row.returning(DatasetRow)).one()
                if parent is not None:
                    set_sources(session, added.id, (parent.prefix, *parent.sources))
                of = {"parent": parent.id} if parent else {}
                record(session, "dataset.create", "dataset", added.id, {"name": name, **of})
                return _dataset(session, added)
        except IntegrityError as error:
            raise _twice(content_hash) from error

    def check_quota(self, owner: Owner, *, added: int = 0, within: Transaction | None = None) -> None:
        """Raises StorageQuota where the owner's datasets, and `added` bytes more, are more than it may store.

        `within` the transaction that adds one, whose bytes count already, two at once do not both find room.
        """
        if owner.most_bytes:
            with self._database.session(read_only=within is None, within=within) as session:
                check_bytes(session, owner, added, lock=within is not None)

    def record_check(
        self,
        dataset_id: str,
        state: DatasetState,
        *,
        content_hash: str | None = None,
        labels: Sequence[str] = (),
        counts: Mapping[str, Any] | None = None,
        report: Mapping[str, Any] | None = None,
        size_bytes: int = 0,
        prefix: str | None = None,
        sources: Sequence[str] = (),
        within: Transaction | None = None,
    ) -> Dataset:
        """Write what the check of the dataset found, with `prefix` where its files lie now, and below which other
        prefixes those that it shares.

        Raises NotFound, and Conflict as `add` does.
        """
        values: dict[str, Any] = {
            "state": state,
            "content_hash": content_hash,
            "labels": list(labels),
            "counts": dict(counts or {}),
            "report": dict(report or {}),
            "size_bytes": size_bytes,
        }
        if prefix is not None:
            values["prefix"] = prefix
        return self._record(dataset_id, values, sources, within)

    def record_duplicate(self, dataset_id: str, original: str, *, within: Transaction | None = None) -> Dataset:
        """From now on `dataset_id` leads to the ready dataset `original` of the same content. Raises NotFound.

        Its own state is `refused`, which is what releases know that do not follow duplicates.
        """
        reason = f"The same images and labels are dataset {original} already; use that one."
        values = {
            "state": DatasetState.REFUSED,
            "duplicate_of": original,
            "report": {"duplicate_of": original, "refusals": [reason]},
        }
        return self._record(dataset_id, values, (), within)

    def get(self, dataset_id: str) -> Dataset:
        """The dataset of that id, or the one that it is a duplicate of. Raises NotFound."""
        with self._database.session(read_only=True) as session:
            row = session.get(DatasetRow, dataset_id) if is_text(dataset_id) else None
            if row is not None and row.duplicate_of is not None:
                row = session.get(DatasetRow, row.duplicate_of)
            if row is None:
                raise NotFound("dataset", dataset_id)
            return _dataset(session, row)

    def find_by_hash(self, content_hash: str, *, within: Transaction | None = None) -> Dataset | None:
        """The ready dataset of that content; `within` a transaction nobody deletes it before that is committed."""
        ready = select(DatasetRow).where(
            equals(DatasetRow.content_hash, content_hash), DatasetRow.state == DatasetState.READY
        )
        if within is not None:
            ready = ready.with_for_update(read=True)
        with self._database.session(read_only=within is None, within=within) as session:
            row = session.scalars(ready).one_or_none()
            return None if row is None else _dataset(session, row)

    def ids(self) -> frozenset[str]:
        """Of all there are, duplicates included."""
        with self._database.session(read_only=True) as session:
            return frozenset(session.scalars(select(DatasetRow.id)))

    def refuse_abandoned(self, older_than: timedelta) -> int:
        """Refuse the datasets made longer ago that are `checking` though no job checks them; how many it was.

        A release before this one left such, and leaves them while it runs beside this one.
        """
        jobs = select(JobRow.id).where(JobRow.dataset == DatasetRow.id, ACTIVE, JobRow.waits_for.is_(None))
        abandoned = (
            update(DatasetRow)
            .where(
                DatasetRow.state == DatasetState.CHECKING,
                DatasetRow.created_at < from_now(-older_than.total_seconds()),
                not_(jobs.exists()),
            )
            .values(state=DatasetState.REFUSED, report={"refusals": ["Its check ended without a verdict."]})
        )
        with self._database.session() as session:
            return len(session.scalars(abandoned.returning(DatasetRow.id)).all())

    def list(
        self, limit: int, cursor: str | None = None, search: str | None = None, *, family_of: str | None = None
    ) -> Page[Dataset]:
        """Newest first, without duplicates. `search` is a part of the name or the id; `family_of` the first of a
        family, which goes with its revisions. Raises InvalidCursor."""
        limit = bounded(limit)
        query = select(DatasetRow).where(DatasetRow.duplicate_of.is_(None))
        query = query.order_by(DatasetRow.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(DatasetRow.id < decode_cursor(cursor, str))
        if search:
            query = query.where(contains(search, DatasetRow.name, DatasetRow.id))
        if family_of is not None:
            query = query.where(or_(equals(DatasetRow.id, family_of), equals(DatasetRow.root, family_of)))
        with self._database.session(read_only=True) as session:
            datasets = tuple(_dataset(session, row) for row in session.scalars(query).all())
        return Page(datasets[:limit], encode_cursor(datasets[limit - 1].id) if len(datasets) > limit else None)

    def delete(self, dataset_id: str, *, within: Transaction | None = None) -> Dataset:
        """Delete the dataset with its duplicates and return what it was: its files are the caller's to delete,
        but those that others share (`storage.kept_files`).

        A duplicate is deleted alone. Raises InUse while a job that has not ended names the dataset, or makes a
        revision of it, and NotFound.
        """
        with self._database.session(within=within) as session:
            # Locked before the jobs are looked at: JobLedger.create locks it too, so no job slips in between.
            locked = select(DatasetRow).where(equals(DatasetRow.id, dataset_id)).with_for_update()
            row = session.scalars(locked).one_or_none()
            if row is None:
                raise NotFound("dataset", dataset_id)
            job = session.scalar(select(JobRow.id).where(names_dataset(dataset_id)).limit(1))
            if job is None:
                revised = (DatasetRow.parent == dataset_id, DatasetRow.state == DatasetState.CHECKING)
                job = session.scalar(select(DatasetRow.job_id).where(*revised).limit(1))
            if job is not None:
                raise InUse(
                    f"Dataset {dataset_id} is needed by job {job}. Cancel the job or wait for its end first."
                )
            deleted = _dataset(session, row)
            keep_shared(session, deleted.prefix, deleted.sources, deleted.size_bytes)
            same = or_(DatasetRow.id == dataset_id, DatasetRow.duplicate_of == dataset_id)
            session.execute(delete(DatasetRow).where(same))
            record(session, "dataset.delete", "dataset", dataset_id, {"name": row.name})
        return deleted

    def _record(
        self, dataset_id: str, values: Mapping[str, Any], sources: Sequence[str], within: Transaction | None
    ) -> Dataset:
        change = update(DatasetRow).where(equals(DatasetRow.id, dataset_id)).values(**values)
        try:
            with self._database.session(within=within) as session:
                row = session.scalars(change.returning(DatasetRow)).one_or_none()
                if row is None:
                    raise NotFound("dataset", dataset_id)
                set_sources(session, dataset_id, sources)
                found = {"duplicate_of": row.duplicate_of} if row.duplicate_of else {"state": row.state}
                record(session, "dataset.check", "dataset", dataset_id, found)
                return _dataset(session, row)
        except IntegrityError as error:
            raise _twice(values.get("content_hash")) from error


def _twice(content_hash: str | None) -> Conflict:
    return Conflict(f"There is a dataset with that id or with the content hash {content_hash!r} already.")


def _dataset(session: Session, row: DatasetRow) -> Dataset:
    return Dataset(
        id=row.id,
        name=row.name,
        content_hash=row.content_hash,
        state=DatasetState(row.state),
        prefix=row.prefix,
        labels=tuple(row.labels),
        counts=row.counts,
        report=row.report,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        job_id=row.job_id,
        duplicate_of=row.duplicate_of,
        parent=row.parent,
        root=row.root or row.id,
        revision=row.revision or 1,
        sources=sources_of(session, row.id) if row.parent else (),
    )
