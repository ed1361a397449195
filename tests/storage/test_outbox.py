"""Webhooks and their messages: written with a job's end, claimed by one gateway at a time, tried for a day."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from support.past import let_pass

from storage.audit import AuditLog
from storage.database import Database, open_database
from storage.errors import Conflict, InvalidCursor, InvalidName, NotFound
from storage.job_ledger import JobLedger
from storage.outbox import Outbox
from storage.tables import DeliveryRow, JobRow
from storage.webhook import ClaimedDelivery, DeliveryState
from storage.webhooks import MOST_WEBHOOKS, WebhookRegistry

URL = "https://hooks.example.org/fovea?token=x"
DAY_S = 86_400.0


@pytest.fixture
def webhooks(database: Database) -> WebhookRegistry:
    return WebhookRegistry(database)


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


@pytest.fixture
def ledger(database: Database) -> JobLedger:
    return JobLedger(database)


def end(ledger: JobLedger, kind: str = "finetune") -> str:
    job = ledger.create(kind, {"model": "m", "secret": "s"})
    return ledger.request_cancel(job.id).id


def claim(outbox: Outbox, most: int = 10, lease_s: float = 30, each: int = 10) -> list[ClaimedDelivery]:
    return outbox.claim(most, lease_s, most_each=each)


def test_a_webhook_is_made_shown_changed_and_deleted(webhooks: WebhookRegistry, database: Database) -> None:
    made, secret = webhooks.create(URL, events=["job.failed"], kinds=["publish", "finetune"], description="Ours")
    assert secret.startswith("whsec_")
    assert webhooks.secret(made.id) == secret
    assert (made.kinds, made.disabled_at, made.pending) == (("finetune", "publish"), None, 0)
    assert webhooks.get(made.id) == made
    assert webhooks.list(10).items == (made,)

    changed = webhooks.change(made.id, kinds=None, description=None, enabled=False)
    assert (changed.events, changed.kinds, changed.description) == (("job.failed",), (), None)
    assert changed.disabled_at is not None
    assert webhooks.change(made.id, enabled=False) == changed
    assert webhooks.change(made.id, enabled=True).disabled_at is None

    webhooks.delete(made.id)
    for call in (webhooks.get, webhooks.secret, webhooks.delete, webhooks.change):
        with pytest.raises(NotFound):
            call(made.id)
    entries = AuditLog(database).list(10, subject=made.id).items
    assert [entry.action for entry in entries] == [
        "webhook.delete", "webhook.change", "webhook.change", "webhook.create",
    ]  # fmt: skip
    assert entries[-1].detail == {
        "host": "hooks.example.org", "events": ["job.failed"], "kinds": ["finetune", "publish"],
    }  # fmt: skip
    assert "token" not in repr(entries)


def test_webhooks_are_few_and_listed_in_pages(webhooks: WebhookRegistry) -> None:
    made = [webhooks.create(URL)[0].id for _ in range(MOST_WEBHOOKS)]
    with pytest.raises(Conflict, match="100 webhooks"):
        webhooks.create(URL)
    first = webhooks.list(60)
    rest = webhooks.list(60, first.next_cursor)
    assert [webhook.id for webhook in (*first.items, *rest.items)] == made[::-1]
    assert rest.next_cursor is None
    with pytest.raises(InvalidCursor):
        webhooks.list(1, "?")
    with pytest.raises(InvalidName):
        webhooks.change(made[0], description="\u202e")


def by_worker(ledger: JobLedger, job: str, how: Callable[..., None], *more: object) -> None:
    attempt = ledger.take(job, "w", 30)
    assert attempt
    how(attempt, *more)


def test_whoever_ends_a_job_leaves_a_message(webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger) -> None:
    webhooks.create(URL)
    succeeded, failed, cancelled, silent = (ledger.create("finetune", {"model": "m"}).id for _ in range(4))
    result = {"model": "m", "version": 3, "promoted": True, "metrics": {"accuracy": 1.0}, "variants_job": None}
    by_worker(ledger, succeeded, ledger.succeed, result)
    by_worker(ledger, failed, ledger.fail, "diverged", "The loss is no number.")
    ledger.request_cancel(cancelled)
    for _ in range(3):
        assert ledger.take(silent, "w", -1)
    ledger.to_requeue(60)

    payloads = {message.delivery.job_id: message.delivery.payload for message in claim(outbox)}

    assert {job: payload["type"] for job, payload in payloads.items()} == {
        succeeded: "job.succeeded", failed: "job.failed", cancelled: "job.cancelled", silent: "job.failed",
    }  # fmt: skip
    told = payloads[succeeded]["data"]
    assert told["result"] == {"model": "m", "version": 3, "promoted": True}
    assert (told["id"], told["kind"], told["state"], told["error"]) == (succeeded, "finetune", "succeeded", None)
    assert payloads[succeeded]["timestamp"] == told["finished_at"]
    assert told["finished_at"].endswith("Z")
    assert payloads[failed]["data"]["error"] == {"code": "diverged", "detail": "The loss is no number."}
    assert payloads[silent]["data"]["error"]["code"] == "attempts_exhausted"


def test_a_job_that_goes_on_leaves_none(webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger) -> None:
    webhooks.create(URL)
    job = ledger.create("finetune", {})
    attempt = ledger.take(job.id, "w", 30)
    assert attempt
    ledger.fail(attempt, "disk_full", "Full.", retry=True)
    assert claim(outbox) == []


def test_an_end_that_is_not_committed_leaves_none(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger
) -> None:
    webhooks.create(URL)
    attempt = ledger.take(ledger.create("finetune", {}).id, "w", 30)
    assert attempt

    def end_midway() -> None:
        with ledger.transaction(attempt) as transaction:
            ledger.succeed(attempt, {}, within=transaction)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        end_midway()
    assert claim(outbox) == []
    ledger.succeed(attempt, {})
    ledger.succeed(attempt, {})
    assert len(claim(outbox)) == 1


def test_each_webhook_hears_of_what_it_asked_for(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger
) -> None:
    everything, failures, publishes, disabled = (
        webhooks.create(URL, events=events, kinds=kinds)[0].id
        for events, kinds in (([], []), (["job.failed"], []), (["job.cancelled"], ["publish"]), ([], []))
    )
    webhooks.change(disabled, enabled=False)
    end(ledger)
    assert [message.delivery.webhook_id for message in claim(outbox)] == [everything]
    end(ledger, "publish")
    assert {message.delivery.webhook_id for message in claim(outbox)} == {everything, publishes}
    assert webhooks.get(failures).pending == 0
    assert webhooks.get(everything).pending == 2


def test_a_claimed_message_is_nobody_elses_until_the_lease_is_over(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger, database: Database
) -> None:
    webhook, secret = webhooks.create(URL)
    end(ledger)
    (first,) = claim(outbox)
    assert (first.url, first.secret, first.delivery.attempts) == (URL, secret, 1)
    assert claim(outbox) == []

    let_pass(database, 31, DeliveryRow)
    (second,) = claim(outbox)
    assert (second.delivery.id, second.delivery.attempts) == (first.delivery.id, 2)
    # Whoever was overtaken writes nothing.
    assert outbox.failed(first, status=None, error="late", wait_s=0, give_up_s=DAY_S) is None
    outbox.gone(first, 410, "late")
    outbox.delivered(second, 204)
    (told,) = webhooks.deliveries(webhook.id, 10).items
    assert (told.state, told.status, told.error, told.next_at) == (DeliveryState.DELIVERED, 204, None, None)
    assert claim(outbox) == []


def test_a_failed_message_is_due_again_later_until_it_is_given_up(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger, database: Database
) -> None:
    webhook, _ = webhooks.create(URL)
    end(ledger)
    (claimed,) = claim(outbox)
    state = outbox.failed(claimed, status=503, error="it answered 503", wait_s=60, give_up_s=DAY_S)
    assert state is DeliveryState.PENDING
    assert claim(outbox) == []
    assert 0 <= outbox.oldest_s() < 30
    let_pass(database, 61, DeliveryRow)
    assert 60 < outbox.oldest_s() < 120
    (claimed,) = claim(outbox)
    # The next attempt would come after the day is over.
    state = outbox.failed(claimed, status=503, error="it answered 503", wait_s=DAY_S - 30, give_up_s=DAY_S)
    assert state is DeliveryState.GIVEN_UP
    (told,) = webhooks.deliveries(webhook.id, 10).items
    assert (told.state, told.attempts, told.status, told.error) == ("given_up", 2, 503, "it answered 503")
    assert outbox.oldest_s() == 0
    assert outbox.prune(timedelta(days=1)) == 0
    let_pass(database, 2 * DAY_S, DeliveryRow)
    assert outbox.prune(timedelta(days=1)) == 1


def test_a_receiver_that_is_gone_disables_its_webhook(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger, database: Database
) -> None:
    webhook, _ = webhooks.create(URL)
    for _ in range(3):
        end(ledger)
    first, second = claim(outbox, most=2)
    outbox.gone(first, 410, "it answered 410 Gone")
    outbox.gone(second, 410, "it answered 410 Gone")
    found = webhooks.get(webhook.id)
    assert (found.disabled_reason, found.pending) == ("it answered 410 Gone", 1)
    assert len(AuditLog(database).list(10, action="webhook.disable").items) == 1
    end(ledger)
    assert (claim(outbox), outbox.oldest_s()) == ([], 0)
    assert webhooks.change(webhook.id, enabled=True).disabled_reason is None
    assert len(claim(outbox)) == 1


def test_what_waits_for_a_disabled_webhook_is_given_up_in_time(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger, database: Database
) -> None:
    webhook, _ = webhooks.create(URL)
    end(ledger)
    webhooks.change(webhook.id, enabled=False)
    assert outbox.give_up(DAY_S) == 0
    let_pass(database, DAY_S + 1, DeliveryRow)
    assert outbox.give_up(DAY_S) == 1
    assert webhooks.get(webhook.id).pending == 0


def test_a_slow_receiver_holds_up_no_other(webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger) -> None:
    slow, _ = webhooks.create(URL)
    for _ in range(6):
        end(ledger)
    other, _ = webhooks.create(URL)
    end(ledger)
    first = [message.delivery.webhook_id for message in claim(outbox, each=4)]
    assert sorted(first) == sorted([slow.id] * 4 + [other.id])
    assert outbox.claim(10, 30, most_each=4, busy=[slow.id]) == []
    assert len(claim(outbox, most=2)) == 2


def test_what_is_deleted_takes_its_messages_with_it(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger
) -> None:
    webhook, _ = webhooks.create(URL)
    end(ledger)
    (claimed,) = claim(outbox)
    webhooks.delete(webhook.id)
    outbox.delivered(claimed, 200)
    assert outbox.oldest_s() == 0


def test_a_message_outlives_the_record_of_its_job(
    webhooks: WebhookRegistry, outbox: Outbox, ledger: JobLedger, database: Database
) -> None:
    webhooks.create(URL)
    job = end(ledger)
    let_pass(database, 10, JobRow)
    assert ledger.prune(timedelta(seconds=1)) == 1
    assert [message.delivery.job_id for message in claim(outbox)] == [job]


def test_several_gateways_claim_different_messages(webhooks: WebhookRegistry, ledger: JobLedger, url: str) -> None:
    webhooks.create(URL)
    jobs = sorted(end(ledger) for _ in range(40))
    databases = [open_database(url) for _ in range(4)]

    def claim_all(database: Database) -> list[str]:
        found = []
        while some := claim(Outbox(database), most=3):
            found += [message.delivery.job_id for message in some]
        return found

    with ThreadPoolExecutor(4) as pool:
        claimed = [job for jobs in pool.map(claim_all, databases) for job in jobs]
    # Two that chose the same at one moment leave it to one of them, and look again in a second.
    claimed += claim_all(databases[0])
    for database in databases:
        database.close()
    assert sorted(claimed) == jobs
