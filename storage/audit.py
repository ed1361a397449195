"""The audit log: who did what to which model, dataset, key and job, written together with the deed.

Whoever acts is said once, at the edge (a request, a command, a job), and travels in a context variable, which
`asyncio.to_thread` takes along. The classes that change rows call `record` in the transaction of the change.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.orm import Session

from storage.clock import from_now, now
from storage.database import Database
from storage.ids import new_id
from storage.page import Page, bounded, decode_cursor, encode_cursor
from storage.tables import AuditRow
from storage.text import equals


@dataclass(frozen=True)
class Actor:
    """Who acts. `id` is the prefix of a key, or `loopback` (a gateway without keys), `cli`, `worker`, `system`.

    `name` is the key's, or the user's at the command line; `job_id` is the job that a worker does.
    """

    id: str
    name: str | None = None
    job_id: str | None = None
    request_id: str | None = None
    client: str | None = None


_SYSTEM = Actor("system")
_actor: ContextVar[Actor] = ContextVar("fovea_actor", default=_SYSTEM)


def act_as(actor: Actor) -> None:
    """From now on `actor` acts in this context: for whoever has a context of his own, as a request has."""
    _actor.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Within the block `actor` acts."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def record(
    session: Session, action: str, kind: str, subject: str, detail: Mapping[str, Any] | None = None
) -> None:
    """Note that the present actor does `action` to the `model`, `dataset`, `key`, `job` or `backup` of that name.

    The entry is part of the caller's transaction: there is none without the deed and no deed without it.
    """
    actor = _actor.get()
    session.execute(
        insert(AuditRow).values(
            id=new_id("audit"),
            at=now(),
            actor=actor.id,
            actor_name=actor.name,
            job_id=actor.job_id,
            action=action,
            kind=kind,
            subject=subject,
            detail=dict(detail or {}),
            request_id=actor.request_id,
            client=actor.client,
        )
    )


@dataclass(frozen=True)
class AuditEntry:
    """One deed. `action` is a kind and a verb, such as `alias.set`; `detail` is what it changed."""

    id: str
    at: datetime
    actor: str
    actor_name: str | None
    job_id: str | None
    action: str
    kind: str
    subject: str
    detail: dict[str, Any]
    request_id: str | None
    client: str | None


class AuditLog:
    """What is on record; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self,
        limit: int,
        cursor: str | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
    ) -> Page[AuditEntry]:
        """Newest first. `actor` is its id or its name; `action` one of them, or the kind before its dot.

        Raises InvalidCursor.
        """
        limit = bounded(limit)
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(AuditRow.id < decode_cursor(cursor, str))
        if actor is not None:
            query = query.where(or_(equals(AuditRow.actor, actor), equals(AuditRow.actor_name, actor)))
        if action is not None:
            of_kind = func.substr(AuditRow.action, 1, len(action) + 1)
            query = query.where(or_(equals(AuditRow.action, action), equals(of_kind, f"{action}.")))
        if subject is not None:
            query = query.where(equals(AuditRow.subject, subject))
        if since is not None:
            query = query.where(AuditRow.at >= since)
        with self._database.session(read_only=True) as session:
            entries = tuple(_entry(row) for row in session.scalars(query))
        return Page(entries[:limit], encode_cursor(entries[limit - 1].id) if len(entries) > limit else None)

    def prune(self, older_than: timedelta) -> int:
        """Delete the entries older than that; returns how many it was."""
        old = delete(AuditRow).where(AuditRow.at < from_now(-older_than.total_seconds()))
        with self._database.session() as session:
            return len(session.scalars(old.returning(AuditRow.id)).all())


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        actor=row.actor,
        actor_name=row.actor_name,
        job_id=row.job_id,
        action=row.action,
        kind=row.kind,
        subject=row.subject,
        detail=row.detail,
        request_id=row.request_id,
        client=row.client,
    )
