"""What a webhook and a delivery are. The rules are in `storage.webhooks` and `storage.outbox`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from storage.tables import DeliveryRow, WebhookRow

EVENTS = ("job.succeeded", "job.failed", "job.cancelled")


class DeliveryState(StrEnum):
    """`pending` until a receiver has taken it (`delivered`) or it was tried for long enough (`given_up`)."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True)
class Webhook:
    """Who is told of what: of jobs of those `kinds` that end as `events` say; empty is all.

    `pending` is how many messages wait for it. One that is disabled is sent nothing.
    """

    id: str
    url: str
    events: tuple[str, ...]
    kinds: tuple[str, ...]
    description: str | None
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    pending: int

    @classmethod
    def from_row(cls, row: WebhookRow, pending: int = 0) -> "Webhook":
        return cls(
            id=row.id,
            url=row.url,
            events=tuple(row.events),
            kinds=tuple(row.kinds),
            description=row.description,
            created_at=row.created_at,
            disabled_at=row.disabled_at,
            disabled_reason=row.disabled_reason,
            pending=pending,
        )


@dataclass(frozen=True)
class Delivery:
    """One message to one webhook. `id` is its `webhook-id`, the same at each of its `attempts`.

    `status` and `error` are of the last one; `next_at` is when the next is due, for one that is pending.
    """

    id: str
    webhook_id: str
    job_id: str
    event: str
    payload: dict[str, Any]
    state: DeliveryState
    attempts: int
    status: int | None
    error: str | None
    created_at: datetime
    next_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def from_row(cls, row: DeliveryRow) -> "Delivery":
        return cls(
            id=row.id,
            webhook_id=row.webhook_id,
            job_id=row.job_id,
            event=row.event,
            payload=row.payload,
            state=DeliveryState(row.state),
            attempts=row.attempts,
            status=row.status,
            error=row.error,
            created_at=row.created_at,
            next_at=row.next_at,
            ended_at=row.ended_at,
        )


@dataclass(frozen=True)
class ClaimedDelivery:
    """A message that is this caller's to send, for a while. `token` fences what he writes of it."""

    delivery: Delivery
    url: str
    secret: str
    token: str
