"""The outbox: messages to webhooks, written in the transaction in which a job ends, whoever ends it.

So there is no end without its messages and no message without its end. A gateway claims those that are due for a
while, as a worker takes a job: one that dies between sending and writing that down leaves the message to be sent
again, under the same id.
"""

import secrets
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, delete, func, insert, null, select, update
from sqlalchemy.orm import Session

from storage.audit import record
from storage.clock import from_now, now
from storage.database import Database
from storage.ids import new_id
from storage.tables import DeliveryRow, JobRow, WebhookRow
from storage.webhook import ClaimedDelivery, Delivery, DeliveryState

# Of a job's result what is short: which version came of it, of how many images, whether it was promoted.
_LONGEST_TEXT = 1000
_ENABLED = select(WebhookRow.id).where(WebhookRow.disabled_at.is_(None))
_PENDING = DeliveryRow.state == DeliveryState.PENDING
_DUE = and_(_PENDING, DeliveryRow.next_at <= now(), DeliveryRow.webhook_id.in_(_ENABLED))


def tell_webhooks(session: Session, job: JobRow) -> None:
    """Leave a message for each webhook that wants to hear of this end of such a job."""
    event = f"job.{job.state}"
    # Locked, so that none is deleted before its message is committed.
    asked = select(WebhookRow.id, WebhookRow.events, WebhookRow.kinds).where(WebhookRow.disabled_at.is_(None))
    webhooks = session.execute(asked.order_by(WebhookRow.id).with_for_update(read=True, key_share=True)).all()
    wanted = [
        webhook
        for webhook, events, kinds in webhooks
        if (not events or event in events) and (not kinds or job.kind in kinds)
    ]
    if wanted:
        payload = {"type": event, "timestamp": _time(job.finished_at), "data": _summary(job)}
        messages = [
            {
                "id": new_id("msg"),
                "webhook_id": webhook,
                "job_id": job.id,
                "event": event,
                "payload": payload,
                "state": DeliveryState.PENDING,
                "attempts": 0,
                "created_at": now(),
                "next_at": now(),
            }
            for webhook in wanted
        ]
        for message in messages:
            session.execute(insert(DeliveryRow).values(message))


class Outbox:
    """What waits to be sent; every call is one transaction. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self, most: int, lease_s: float, *, most_each: int, busy: Collection[str] = ()
    ) -> list[ClaimedDelivery]:
        """Messages that are due, for this caller alone until the lease has run out: `most_each` for a webhook.

        None for those that are `busy`: a receiver that is slow holds up no other.
        """
        due = and_(_DUE, DeliveryRow.webhook_id.not_in(list(busy)))
        place = func.row_number().over(
            partition_by=DeliveryRow.webhook_id, order_by=(DeliveryRow.next_at, DeliveryRow.id)
        )
        ranked = select(DeliveryRow.id, place.label("place")).where(due).subquery()
        first = select(ranked.c.id).where(ranked.c.place <= most_each)
        chosen = select(DeliveryRow.id).where(DeliveryRow.id.in_(first), _DUE).order_by(DeliveryRow.next_at)
        chosen = chosen.limit(most).with_for_update(skip_locked=True)
        token = secrets.token_hex(16)
        with self._database.session(read_only=True) as session:
            if session.scalar(select(DeliveryRow.id).where(due).limit(1)) is None:
                return []
        with self._database.session() as session:
            # Apart from the UPDATE, inside of which PostgreSQL may run it again and lock more.
            ids = session.scalars(chosen).all()
            rows = session.scalars(
                update(DeliveryRow)
                .where(DeliveryRow.id.in_(ids))
                .values(attempts=DeliveryRow.attempts + 1, token=token, next_at=from_now(lease_s))
                .returning(DeliveryRow)
            ).all()
            named = select(WebhookRow).where(WebhookRow.id.in_({row.webhook_id for row in rows}))
            webhooks = {row.id: row for row in session.scalars(named)}
            return [
                ClaimedDelivery(
                    Delivery.from_row(row), webhooks[row.webhook_id].url, webhooks[row.webhook_id].secret, token
                )
                for row in sorted(rows, key=lambda row: row.id)
            ]

    def delivered(self, claimed: ClaimedDelivery, status: int) -> None:
        """The receiver has taken it."""
        ended = {"state": DeliveryState.DELIVERED, "ended_at": now(), "next_at": None}
        self._write(claimed, status=status, error=None, **ended)

    def failed(
        self, claimed: ClaimedDelivery, *, status: int | None, error: str, wait_s: float, give_up_s: float
    ) -> DeliveryState | None:
        """To be tried again so much later, unless it would be older than `give_up_s` then; how it stands now.

        None where another caller has it, or it is gone with its webhook.
        """
        is_old = DeliveryRow.created_at < from_now(wait_s - give_up_s)
        return self._write(
            claimed,
            status=status,
            error=error[:_LONGEST_TEXT],
            state=case((is_old, DeliveryState.GIVEN_UP), else_=DeliveryState.PENDING),
            next_at=case((is_old, null()), else_=from_now(wait_s)),
            ended_at=case((is_old, now()), else_=null()),
        )

    def gone(self, claimed: ClaimedDelivery, status: int, error: str) -> None:
        """The receiver wants no message any more: its webhook is disabled."""
        with self._database.session() as session:
            disable = update(WebhookRow).where(
                WebhookRow.id == claimed.delivery.webhook_id, WebhookRow.disabled_at.is_(None)
            )
            disable = disable.values(disabled_at=now(), disabled_reason=error).returning(WebhookRow.id)
            if session.scalar(disable) is not None:
                record(session, "webhook.disable", "webhook", claimed.delivery.webhook_id, {"reason": error})
            ended = {"state": DeliveryState.GIVEN_UP, "ended_at": now(), "next_at": None}
            session.execute(_of(claimed).values(status=status, error=error, **ended))

    def give_up(self, older_than_s: float) -> int:
        """End those that nobody sends, for their webhook is disabled; returns how many it was."""
        old = and_(_PENDING, DeliveryRow.created_at < from_now(-older_than_s))
        old = and_(old, DeliveryRow.webhook_id.not_in(_ENABLED))
        ended = update(DeliveryRow).where(old).values(state=DeliveryState.GIVEN_UP, ended_at=now(), next_at=None)
        with self._database.session() as session:
            return len(session.scalars(ended.returning(DeliveryRow.id)).all())

    def prune(self, older_than: timedelta) -> int:
        """Delete what ended longer ago than that; returns how many it was."""
        old = DeliveryRow.ended_at < from_now(-older_than.total_seconds())
        with self._database.session() as session:
            return len(session.scalars(delete(DeliveryRow).where(old).returning(DeliveryRow.id)).all())

    def oldest_s(self) -> float:
        """For how long the oldest message has waited that is still to be delivered; 0 where none is."""
        waiting = select(func.min(DeliveryRow.created_at), now())
        waiting = waiting.where(_PENDING, DeliveryRow.webhook_id.in_(_ENABLED))
        with self._database.session(read_only=True) as session:
            oldest, at = session.execute(waiting).one()
        return 0.0 if oldest is None else max(0.0, (at - oldest).total_seconds())

    def _write(self, claimed: ClaimedDelivery, **values: Any) -> DeliveryState | None:
        with self._database.session() as session:
            state = session.scalar(_of(claimed).values(**values).returning(DeliveryRow.state))
        return None if state is None else DeliveryState(state)


def _of(claimed: ClaimedDelivery) -> Any:
    mine = and_(DeliveryRow.id == claimed.delivery.id, DeliveryRow.token == claimed.token, _PENDING)
    return update(DeliveryRow).where(mine)


def _summary(job: JobRow) -> dict[str, Any]:
    """What a receiver needs to know, or to look at the job; nothing that is long and nothing of the request."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "model": job.model,
        "dataset": job.dataset,
        "result": _short(job.result or {}),
        "error": _short(job.error) if job.error else None,
        "attempt": job.attempt,
        "request_id": job.request_id,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
    }


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    """Its numbers, words and texts; what is nested stays in the job."""
    kept = {name: value for name, value in values.items() if isinstance(value, str | int | float | bool)}
    return {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in kept.items()}


def _time(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
