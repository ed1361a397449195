"""Sends what waits in the outbox, signed as Standard Webhooks has it, again and again until it is taken.

At least once: a message is claimed for a while, sent, and written down as delivered; who dies in between leaves it
to be sent again under the same `webhook-id`. Several gateways claim different messages.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from service.metrics import GatewayMetrics
from service.webhooks.client import Answer, WebhookClient
from storage.errors import StorageError
from storage.outbox import Outbox
from storage.webhook import ClaimedDelivery, DeliveryState
from storage.webhooks import host_of

GONE = 410
# With a first wait of 10 s and a day: after 10 s, 40 s, 2, 7, 20 minutes, 1, 3, 9, 15, 21 hours.
FACTOR, LONGEST_WAIT_S = 3.0, 6 * 3600.0
JITTER = 0.2
MOST_AT_ONCE, MOST_EACH = 16, 4
KEPT = timedelta(days=14)
HOUSEKEEPING_S = 60.0
log = structlog.get_logger()


@dataclass(frozen=True)
class RetryPolicy:
    """The first wait after a failure, and the age at which a message is given up."""

    first_s: float
    give_up_s: float

    def wait_s(self, attempts: int, answer: Answer) -> float:
        """Until the next attempt after so many; as long as the receiver asks for, where that is longer."""
        backoff = min(self.first_s * FACTOR ** min(attempts - 1, 50), LONGEST_WAIT_S)
        return max(backoff * random.uniform(1 - JITTER, 1 + JITTER), answer.retry_after_s)


@dataclass
class WebhookSender:
    """`lease_s` is how long a message is this gateway's: longer than its receiver may take."""

    outbox: Outbox
    client: WebhookClient
    policy: RetryPolicy
    metrics: GatewayMetrics
    lease_s: float
    poll_s: float = 1.0
    _sending: dict[asyncio.Task[None], str] = field(default_factory=dict, init=False)
    _swept_at: float = field(default=0.0, init=False)

    async def run(self) -> None:
        """Until cancelled; what is under way then is sent again by whoever comes next."""
        async with asyncio.TaskGroup() as group:
            while True:
                for claimed in await self._claim():
                    task = group.create_task(self._deliver(claimed))
                    self._sending[task] = claimed.delivery.webhook_id
                    task.add_done_callback(self._sending.pop)
                if self._sending:
                    await asyncio.wait(
                        list(self._sending), timeout=self.poll_s, return_when=asyncio.FIRST_COMPLETED
                    )
                else:
                    await asyncio.sleep(self.poll_s)

    async def _claim(self) -> list[ClaimedDelivery]:
        room = MOST_AT_ONCE - len(self._sending)
        under_way = Counter(self._sending.values())
        busy = [webhook for webhook, count in under_way.items() if count >= MOST_EACH]
        try:
            await self._sweep()
            if room <= 0:
                return []
            return await asyncio.to_thread(self.outbox.claim, room, self.lease_s, most_each=MOST_EACH, busy=busy)
        except StorageError as error:
            log.warning("webhooks.not_read", reason=str(error))
            return []

    async def _sweep(self) -> None:
        if time.monotonic() - self._swept_at < HOUSEKEEPING_S and self._swept_at:
            return
        self._swept_at = time.monotonic()
        if given_up := await asyncio.to_thread(self.outbox.give_up, self.policy.give_up_s):
            self.metrics.webhook_deliveries.labels("given_up").inc(given_up)
            log.warning("webhooks.given_up", messages=given_up, reason="their webhooks are disabled")
        await asyncio.to_thread(self.outbox.prune, KEPT)

    async def _deliver(self, claimed: ClaimedDelivery) -> None:
        """Raises nothing: what is not written down is sent again when the lease has run out."""
        try:
            body = json.dumps(claimed.delivery.payload, separators=(",", ":")).encode()
            headers = signed(claimed.delivery.id, claimed.secret, body)
            answer = await self.client.post(claimed.url, body, headers)
            outcome = await asyncio.to_thread(self._write_down, claimed, answer)
        except StorageError as error:
            log.warning("webhook.not_written_down", message=claimed.delivery.id, reason=str(error))
            return
        except Exception:
            log.exception("webhook.failed", message=claimed.delivery.id)
            return
        self.metrics.webhook_deliveries.labels(outcome).inc()

    def _write_down(self, claimed: ClaimedDelivery, answer: Answer) -> str:
        delivery = claimed.delivery
        told: Mapping[str, Any] = {
            "message": delivery.id,
            "webhook": delivery.webhook_id,
            "host": host_of(claimed.url),
            "job": delivery.job_id,
            "attempt": delivery.attempts,
        }
        if answer.is_taken and answer.status:
            self.outbox.delivered(claimed, answer.status)
            log.info("webhook.delivered", **told)
            return "delivered"
        reason = answer.detail or "no answer"
        if answer.status == GONE:
            self.outbox.gone(claimed, GONE, "it answered 410 Gone")
            log.warning("webhook.disabled", **told, reason="it answered 410 Gone")
            return "given_up"
        wait_s = self.policy.wait_s(delivery.attempts, answer)
        state = self.outbox.failed(
            claimed, status=answer.status, error=reason, wait_s=wait_s, give_up_s=self.policy.give_up_s
        )
        if state is DeliveryState.GIVEN_UP:
            log.error("webhook.given_up", **told, reason=reason)
            return "given_up"
        log.warning("webhook.not_delivered", **told, reason=reason, again_in_s=round(wait_s, 1))
        return "failed"


def signed(message_id: str, secret: str, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows the message: of now, for an old signature is refused."""
    from standardwebhooks import Webhook

    now = datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body.decode()),
    }
