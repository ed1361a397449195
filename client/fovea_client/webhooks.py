"""`Fovea.webhooks`: addresses that are told when jobs end. For who has a key with the scope admin."""

from collections.abc import Sequence
from typing import Literal

from fovea_client import calls
from fovea_client.models import given, listed
from fovea_client.operation import Mode, Resource, listing, operation
from fovea_client.plan import Feed, Plan
from fovea_client.records import Delivery, Webhook, WebhookTest
from fovea_client.session import Session

JobEnd = Literal["job.succeeded", "job.failed", "job.cancelled"]


class Webhooks(Resource[Mode]):
    """What a receiver is sent, and how it verifies that, stands in docs/api.md."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @listing
    def list(self) -> Feed[Webhook]:
        """The newest first."""
        return (yield from self._session.items(calls.list_webhooks()))

    @operation
    def get(self, webhook: str) -> Plan[Webhook]:
        """One webhook by its id. Raises NotFound."""
        return (yield from self._session.answer(calls.get_webhook(webhook)))

    @operation
    def create(
        self,
        url: str,
        *,
        events: Sequence[JobEnd] | None = None,
        kinds: Sequence[str] | None = None,
        description: str | None = None,
    ) -> Plan[Webhook]:
        """Have an address told when jobs end, of those `kinds` and in those ways; by default of all.

        Its `secret` is there this once: with it the receiver verifies messages. Raises InvalidRequest where the
        address may not be reached.
        """
        fields = given(url=url, events=listed(events), kinds=listed(kinds), description=description)
        return (yield from self._session.answer(calls.create_webhook(fields)))

    @operation
    def change(
        self,
        webhook: str,
        *,
        events: Sequence[JobEnd] | None = None,
        kinds: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Plan[Webhook]:
        """Change what it is told of; what is None stays. Enabled again it is sent what has waited."""
        fields = given(events=listed(events), kinds=listed(kinds), description=description, enabled=enabled)
        return (yield from self._session.answer(calls.change_webhook(webhook, fields)))

    @operation
    def delete(self, webhook: str) -> Plan[None]:
        """With what waits for it."""
        yield from self._session.answer(calls.delete_webhook(webhook))

    @operation
    def test(self, webhook: str) -> Plan[WebhookTest]:
        """Have it sent a message now, once, and see what comes of it."""
        return (yield from self._session.answer(calls.test_webhook(webhook)))

    @listing
    def deliveries(self, webhook: str) -> Feed[Delivery]:
        """What it was told, the newest first, and what came of that."""
        return (yield from self._session.items(calls.list_deliveries(webhook)))
