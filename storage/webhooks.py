"""Webhooks: addresses that are told when a job has ended. Sends nothing and knows no HTTP.

A webhook's secret is shown once and kept as it is: a message is signed with it (`storage.outbox` hands it out).
"""

import base64
import secrets
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.orm import Session

from storage.audit import record
from storage.clock import now
from storage.database import Database
from storage.errors import Conflict, NotFound
from storage.ids import new_id
from storage.page import Page, bounded, decode_cursor, encode_cursor
from storage.tables import DeliveryRow, WebhookRow
from storage.text import check_description, equals
from storage.webhook import Delivery, DeliveryState, Webhook

# Each is asked about at the end of every job.
MOST_WEBHOOKS = 100
_LIST = ("events", "kinds")


class WebhookRegistry:
    """The webhooks; every call is one transaction. Raises DatabaseUnavailable besides what each call names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        url: str,
        *,
        events: Collection[str] = (),
        kinds: Collection[str] = (),
        description: str | None = None,
    ) -> tuple[Webhook, str]:
        """A new webhook and its secret, which cannot be had again. Raises Conflict where there are too many."""
        check_description(description or "")
        secret = new_secret()
        row = insert(WebhookRow).values(
            id=new_id("wh"),
            url=url,
            secret=secret,
            events=sorted(set(events)),
            kinds=sorted(set(kinds)),
            description=description,
            created_at=now(),
        )
        with self._database.session() as session:
            made = session.scalars(row.returning(WebhookRow)).one()
            if (session.scalar(select(func.count()).select_from(WebhookRow)) or 0) > MOST_WEBHOOKS:
                raise Conflict(f"There are {MOST_WEBHOOKS} webhooks already; delete one first.")
            record(session, "webhook.create", "webhook", made.id, _told(made))
            return Webhook.from_row(made), secret

    def list(self, limit: int, cursor: str | None = None) -> Page[Webhook]:
        """Newest first. Raises InvalidCursor."""
        limit = bounded(limit)
        query = select(WebhookRow).order_by(WebhookRow.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(WebhookRow.id < decode_cursor(cursor, str))
        with self._database.session(read_only=True) as session:
            rows = session.scalars(query).all()
            pending = _pending(session, DeliveryRow.webhook_id.in_([row.id for row in rows]))
            found = tuple(Webhook.from_row(row, pending.get(row.id, 0)) for row in rows[:limit])
        return Page(found, encode_cursor(found[-1].id) if len(rows) > limit else None)

    def get(self, webhook_id: str) -> Webhook:
        """Raises NotFound."""
        with self._database.session(read_only=True) as session:
            return _webhook(session, webhook_id)

    def secret(self, webhook_id: str) -> str:
        """For who sends a message. Raises NotFound."""
        with self._database.session(read_only=True) as session:
            return _require(session, webhook_id).secret

    def change(self, webhook_id: str, **changes: Any) -> Webhook:
        """Set `events`, `kinds`, `description` or `enabled`; what is not given stays. Raises NotFound.

        One that is enabled again is sent at once what has waited for it.
        """
        check_description(changes.get("description") or "")
        enabled = changes.pop("enabled", None)
        values = {name: sorted(set(value or ())) if name in _LIST else value for name, value in changes.items()}
        with self._database.session() as session:
            row = _require(session, webhook_id, lock=True)
            changed = {name: value for name, value in values.items() if getattr(row, name) != value}
            if enabled is not None and enabled is not (row.disabled_at is None):
                changed["enabled"] = enabled
                values |= {"disabled_at": None if enabled else now(), "disabled_reason": None}
                if enabled:
                    waiting = (DeliveryRow.webhook_id == row.id, DeliveryRow.state == DeliveryState.PENDING)
                    session.execute(update(DeliveryRow).where(*waiting).values(next_at=now()))
            if changed:
                session.execute(update(WebhookRow).where(WebhookRow.id == row.id).values(**values))
                record(session, "webhook.change", "webhook", row.id, changed)
                session.expire_all()
            return _webhook(session, webhook_id)

    def delete(self, webhook_id: str) -> None:
        """With what waits for it and what it was sent. Raises NotFound."""
        with self._database.session() as session:
            row = _require(session, webhook_id, lock=True)
            record(session, "webhook.delete", "webhook", row.id, _told(row))
            session.execute(delete(WebhookRow).where(WebhookRow.id == row.id))

    def deliveries(self, webhook_id: str, limit: int, cursor: str | None = None) -> Page[Delivery]:
        """Newest first. Raises NotFound and InvalidCursor."""
        limit = bounded(limit)
        query = select(DeliveryRow).where(equals(DeliveryRow.webhook_id, webhook_id))
        query = query.order_by(DeliveryRow.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(DeliveryRow.id < decode_cursor(cursor, str))
        with self._database.session(read_only=True) as session:
            _require(session, webhook_id)
            found = tuple(Delivery.from_row(row) for row in session.scalars(query))
        return Page(found[:limit], encode_cursor(found[limit - 1].id) if len(found) > limit else None)


def new_secret() -> str:
    """As Standard Webhooks writes them: 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def host_of(url: str) -> str:
    """What a log may hold of a URL: what stands in its path is often a secret."""
    return url.partition("://")[2].partition("/")[0].partition("?")[0]


def _told(row: WebhookRow) -> dict[str, Any]:
    return {"host": host_of(row.url), "events": row.events, "kinds": row.kinds}


def _require(session: Session, webhook_id: str, *, lock: bool = False) -> WebhookRow:
    found = select(WebhookRow).where(equals(WebhookRow.id, webhook_id))
    row = session.scalars(found.with_for_update() if lock else found).one_or_none()
    if row is None:
        raise NotFound("webhook", webhook_id)
    return row


def _webhook(session: Session, webhook_id: str) -> Webhook:
    row = _require(session, webhook_id)
    return Webhook.from_row(row, _pending(session, DeliveryRow.webhook_id == row.id).get(row.id, 0))


def _pending(session: Session, which: ColumnElement[bool]) -> dict[str, int]:
    counting = select(DeliveryRow.webhook_id, func.count()).group_by(DeliveryRow.webhook_id)
    counting = counting.where(which, DeliveryRow.state == DeliveryState.PENDING)
    return {row[0]: row[1] for row in session.execute(counting)}
