"""Webhooks from end to end: real gateways, a real receiver, and every kind of fault between them."""

import itertools
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import WebhookVerificationError
from support.gateways import Gateways, running_gateways
from support.receiver import Message, Receiver, running_receiver

from storage.audit import AuditLog
from storage.job_ledger import JobLedger
from storage.webhooks import WebhookRegistry

TIMEOUT_S, RETRY_S = 1.0, 0.2
# As long as a message is a gateway's that has died, and a while.
LEASE_S = 2 * TIMEOUT_S + 5


@pytest.fixture(scope="module")
def hooked() -> Iterator[Gateways]:
    """Two gateways on one database that may reach loopback."""
    environment = {
        "FOVEA_WEBHOOK_ALLOW": "127.0.0.1",
        "FOVEA_WEBHOOK_TIMEOUT_S": f"{TIMEOUT_S}",
        "FOVEA_WEBHOOK_RETRY_S": f"{RETRY_S}",
        "FOVEA_WEBHOOK_GIVE_UP_HOURS": f"{30 / 3600}",
    }
    with running_gateways(2, **environment) as started:
        yield started


@pytest.fixture
def admin(hooked: Gateways) -> Iterator[httpx.Client]:
    _, headers = hooked.key("admin", name="Anna")
    with httpx.Client(base_url=hooked.urls[0], headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
def receiver(hooked: Gateways) -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running
    registry = WebhookRegistry(hooked.database)
    for webhook in registry.list(100).items:
        registry.delete(webhook.id)


def made(admin: httpx.Client, receiver: Receiver, **more: Any) -> dict[str, Any]:
    answer = admin.post("/v1/webhooks", json={"url": receiver.url, **more})
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()
    return webhook


def cancelled(admin: httpx.Client, hooked: Gateways) -> str:
    """A job that a gateway ends."""
    job = JobLedger(hooked.database).create("finetune", {"model": "m"})
    admin.post(f"/v1/jobs/{job.id}/cancel").raise_for_status()
    return job.id


def deliveries(admin: httpx.Client, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    answer = admin.get(f"/v1/webhooks/{webhook['id']}/deliveries?limit=200")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def wait(hooked: Gateways, holds: Any, what: str, timeout_s: float = 20) -> None:
    hooked.stacks[0].wait_until(holds, what, timeout_s)


def test_a_webhook_is_made_listed_changed_and_deleted(
    hooked: Gateways, admin: httpx.Client, receiver: Receiver
) -> None:
    asked = {"url": receiver.url, "events": ["job.failed"], "kinds": ["ingest"], "description": None}
    answer = admin.post("/v1/webhooks", json=asked)
    webhook = answer.json()
    assert answer.headers["location"] == f"/v1/webhooks/{webhook['id']}"
    assert webhook["secret"].startswith("whsec_")
    shown = {name: value for name, value in webhook.items() if name != "secret"}
    assert admin.get(f"/v1/webhooks/{webhook['id']}").json() == shown
    assert admin.get("/v1/webhooks").json()["items"] == [shown]
    patch = {"events": None, "description": None, "enabled": False}
    patched = admin.patch(f"/v1/webhooks/{webhook['id']}", json=patch).json()
    assert (patched["events"], patched["kinds"], patched["disabled_reason"]) == ([], ["ingest"], None)
    assert patched["disabled_at"] is not None
    assert admin.patch(f"/v1/webhooks/{webhook['id']}", json={"enabled": None}).json()["disabled_at"] is None
    assert admin.delete(f"/v1/webhooks/{webhook['id']}").status_code == 204
    assert admin.get(f"/v1/webhooks/{webhook['id']}").json()["code"] == "unknown_webhook"
    entries = AuditLog(hooked.database).list(10, subject=webhook["id"]).items
    assert [entry.action.partition(".")[2] for entry in entries] == ["delete", "change", "change", "create"]
    assert {entry.actor_name for entry in entries} == {"Anna"}
    for stack in hooked.stacks:
        assert webhook["secret"] not in stack.log("gateway")


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "body.url", "missing"),
        ({"url": "ftp://x.example/"}, "body.url", "http"),
        ({"url": "https://127.0.0.2/"}, "body.url", "no public address"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "body.url", "no public address"),
        ({"url": "http://169.254.169.254/latest/meta-data/"}, "body.url", "no public address"),
        ({"url": "http://93.184.216.34/"}, "body.url", "expected https"),
        ({"url": "https://a:b@127.0.0.1/"}, "body.url", "signed instead"),
        ({"url": "https://no-such-host.invalid/"}, "body.url", "cannot be resolved"),
        ({"url": "http://127.0.0.1/", "events": ["job.queued"]}, "body.events.0", "job.succeeded"),
        ({"url": "http://127.0.0.1/", "kinds": ["nothing"]}, "body.kinds.0", "finetune"),
        ({"url": "http://127.0.0.1/", "secret": "mine"}, "body.secret", ""),
    ],
)
def test_what_cannot_be_a_webhook_is_told_by_its_field(
    admin: httpx.Client, body: dict[str, Any], field: str, said: str
) -> None:
    answer = admin.post("/v1/webhooks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert said in error["message"]


def test_an_ended_job_is_told_with_a_signature_that_verifies(
    hooked: Gateways, admin: httpx.Client, receiver: Receiver
) -> None:
    webhook = made(admin, receiver)
    job = cancelled(admin, hooked)
    wait(hooked, lambda: receiver.messages, "the message")
    (message,) = receiver.messages
    payload = message.verified(webhook["secret"])
    assert payload["type"] == "job.cancelled"
    assert (payload["data"]["id"], payload["data"]["model"]) == (job, "m")
    with pytest.raises(WebhookVerificationError):
        message.verified(made(admin, receiver)["secret"])
    with pytest.raises(WebhookVerificationError):
        Message(message.path, message.headers, message.body.replace(b"cancelled", b"succeeded")).verified(
            webhook["secret"]
        )
    wait(hooked, lambda: deliveries(admin, webhook)[0]["state"] == "delivered", "that it is written down")
    (told,) = deliveries(admin, webhook)
    assert (told["id"], told["job_id"], told["event"], told["status"]) == (message.id, job, "job.cancelled", 204)
    assert (told["attempts"], told["payload"], told["next_at"], told["error"]) == (1, payload, None, None)


def test_a_test_message_tells_at_once_what_comes_of_it(
    hooked: Gateways, admin: httpx.Client, receiver: Receiver
) -> None:
    webhook = made(admin, receiver, events=["job.failed"])
    path = f"/v1/webhooks/{webhook['id']}/test"
    answer = admin.post(path).json()
    assert (answer["delivered"], answer["status"], answer["detail"]) == (True, 204, None)
    payload = receiver.messages[0].verified(webhook["secret"])
    assert (payload["type"], payload["data"]) == ("webhook.test", {"webhook": webhook["id"]})
    receiver.status = 500
    answer = admin.post(path).json()
    assert (answer["delivered"], answer["status"], answer["detail"]) == (False, 500, "it answered 500")
    receiver.before = lambda _: time.sleep(1.5 * TIMEOUT_S)
    answer = admin.post(path).json()
    assert (answer["delivered"], answer["status"]) == (False, None)
    assert answer["detail"] == f"no answer within {TIMEOUT_S:g} s"
    assert deliveries(admin, webhook) == []


def test_two_gateways_deliver_each_message_once(hooked: Gateways, admin: httpx.Client, receiver: Receiver) -> None:
    webhook = made(admin, receiver)
    jobs = {cancelled(admin, hooked) for _ in range(60)}
    wait(hooked, lambda: len(receiver.messages) >= 60, "all messages", 40)
    wait(hooked, lambda: admin.get(f"/v1/webhooks/{webhook['id']}").json()["pending"] == 0, "all written down")
    time.sleep(2)
    assert len(receiver.ids) == len(set(receiver.ids)) == 60
    assert {message.verified(webhook["secret"])["data"]["id"] for message in receiver.messages} == jobs
    senders = [stack.log("gateway").count('"webhook.delivered"') for stack in hooked.stacks]
    assert min(senders) > 0, senders


def test_a_receiver_that_is_down_is_tried_again_until_it_is_up(
    hooked: Gateways, admin: httpx.Client, receiver: Receiver
) -> None:
    statuses = itertools.chain([500, 302, 404], itertools.repeat(200))

    def answer(_: Message) -> None:
        receiver.status = next(statuses)

    receiver.before = answer
    webhook = made(admin, receiver)
    cancelled(admin, hooked)
    wait(hooked, lambda: len(receiver.messages) >= 4, "the fourth attempt", 30)
    wait(hooked, lambda: deliveries(admin, webhook)[0]["state"] == "delivered", "that it is written down")
    assert len(set(receiver.ids)) == 1
    assert deliveries(admin, webhook)[0]["attempts"] == 4
    # Each attempt is signed anew: an old signature is refused.
    for message in receiver.messages:
        message.verified(webhook["secret"])
    metrics = "".join(httpx.get(f"{url}/metrics", headers=admin.headers).text for url in hooked.urls)
    assert 'fovea_webhook_deliveries_total{outcome="failed"}' in metrics
    assert 'fovea_webhook_oldest_seconds{state="pending"}' in metrics


@pytest.mark.slow
def test_one_that_stays_down_is_given_up_and_told(
    hooked: Gateways, admin: httpx.Client, receiver: Receiver
) -> None:
    receiver.status = 503
    webhook = made(admin, receiver)
    cancelled(admin, hooked)
    wait(hooked, lambda: deliveries(admin, webhook)[0]["state"] == "given_up", "that it is given up", 60)
    (told,) = deliveries(admin, webhook)
    assert (told["status"], told["error"], told["next_at"]) == (503, "it answered 503", None)
    assert told["attempts"] >= 4
    assert any('"webhook.given_up"' in stack.log("gateway") for stack in hooked.stacks)
    assert receiver.ids == [told["id"]] * told["attempts"]


def test_one_that_is_gone_is_disabled(hooked: Gateways, admin: httpx.Client, receiver: Receiver) -> None:
    receiver.status = 410
    webhook = made(admin, receiver)
    cancelled(admin, hooked)
    path = f"/v1/webhooks/{webhook['id']}"
    wait(hooked, lambda: admin.get(path).json()["disabled_at"], "that it is disabled")
    assert admin.get(path).json()["disabled_reason"] == "it answered 410 Gone"
    cancelled(admin, hooked)
    time.sleep(2)
    assert len(receiver.messages) == 1
    (entry,) = AuditLog(hooked.database).list(10, subject=webhook["id"], action="webhook.disable").items
    assert entry.actor == "system"


@pytest.mark.slow
def test_a_gateway_killed_between_sending_and_writing_down_has_it_sent_again_under_the_same_id(
    hooked: Gateways, admin: httpx.Client, receiver: Receiver
) -> None:
    """Both are killed, for one of them has it, and the first comes back."""

    def kill(_: Message) -> None:
        receiver.before = lambda _: None
        for stack in hooked.stacks:
            stack.stop_process("gateway", signal.SIGKILL)

    receiver.before = kill
    webhook = made(admin, receiver)
    job = JobLedger(hooked.database).create("finetune", {"model": "m"})
    JobLedger(hooked.database).request_cancel(job.id)
    wait(hooked, lambda: receiver.messages, "the message")
    deadline = time.monotonic() + 10
    while any(stack.processes for stack in hooked.stacks) and time.monotonic() < deadline:
        time.sleep(0.05)
    for stack in hooked.stacks:
        stack.start_process("gateway")
    for stack in hooked.stacks:
        stack.wait_until(stack.alive, "the gateway again")
    wait(hooked, lambda: len(receiver.messages) >= 2, "the second time", LEASE_S + 20)
    assert receiver.ids == receiver.ids[:1] * 2
    wait(hooked, lambda: deliveries(admin, webhook)[0]["state"] == "delivered", "that it is written down")
    assert [message.verified(webhook["secret"])["data"]["id"] for message in receiver.messages] == [job.id] * 2


def test_a_gateway_that_is_told_to_end_does_so_while_a_receiver_is_slow(
    hooked: Gateways, admin: httpx.Client, receiver: Receiver
) -> None:
    receiver.before = lambda _: time.sleep(TIMEOUT_S * 0.9)
    made(admin, receiver)
    for _ in range(20):
        cancelled(admin, hooked)
    wait(hooked, lambda: len(receiver.messages) >= 2, "the first messages")
    began = time.monotonic()
    assert hooked.stacks[1].stop_process("gateway") == 0
    assert time.monotonic() - began < 10
    hooked.stacks[1].start_process("gateway")
    hooked.stacks[1].wait_until(hooked.stacks[1].alive, "the gateway again")
