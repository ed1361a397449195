"""The rules of the ledger, one at a time; what happens when many meet is in test_jobs_raced.py."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from support.past import let_pass

from storage import events, idempotency
from storage.clock import from_now
from storage.database import Database
from storage.datasets import DatasetRegistry, DatasetState
from storage.errors import Conflict, InvalidCursor, LeaseLost, NotFound
from storage.ids import new_id
from storage.job_ledger import Attempt, Idempotency, Job, JobLedger, JobState
from storage.owner import Owner
from storage.tables import IdempotencyRow, JobRow

LEASE_S = 60
OVER = -1  # a lease that has ended when it begins
WRITES: dict[str, Callable[[JobLedger, Attempt], object]] = {
    "renew": lambda ledger, attempt: ledger.renew(attempt, LEASE_S),
    "progress": lambda ledger, attempt: ledger.report_progress(attempt, {"by": "zombie"}),
    "succeed": lambda ledger, attempt: ledger.succeed(attempt, {"by": "zombie"}),
    "fail": lambda ledger, attempt: ledger.fail(attempt, "zombie", "from the grave"),
    "retry": lambda ledger, attempt: ledger.fail(attempt, "zombie", "from the grave", retry=True),
    "release": lambda ledger, attempt: ledger.release(attempt),
    "cancelled": lambda ledger, attempt: ledger.end_cancelled(attempt),
}


@pytest.fixture
def ledger(database: Database) -> JobLedger:
    return JobLedger(database)


def taken(ledger: JobLedger, job: Job, worker: str = "w1", lease_s: float = LEASE_S) -> Attempt:
    attempt = ledger.take(job.id, worker, lease_s)
    assert attempt is not None
    return attempt


def states(ledger: JobLedger, job: Job) -> list[Any]:
    return [event.data["state"] for event in ledger.events(job.id) if event.kind == "state"]


def test_a_job_waits_as_it_was_asked_for(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {"model": "ants-bees", "seed": 0}, request_id="req_1")

    assert job == ledger.get(job.id)
    assert job.id.startswith("job_")
    assert (job.kind, job.state, job.request) == ("finetune", JobState.QUEUED, {"model": "ants-bees", "seed": 0})
    assert (job.attempt, job.max_attempts, job.request_id) == (0, 3, "req_1")
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(seconds=5)
    assert states(ledger, job) == ["queued"]


def test_a_job_is_taken_worked_on_and_ended(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    attempt = taken(ledger, job)
    assert (attempt.job.state, attempt.job.attempt, attempt.job.worker) == (JobState.RUNNING, 1, "w1")
    assert attempt.job.lease_until is not None
    assert attempt.job.lease_until - datetime.now(UTC) > timedelta(seconds=LEASE_S - 5)

    assert ledger.renew(attempt, LEASE_S) is False
    ledger.report_progress(attempt, {"phase": "training", "epoch": 1})
    assert ledger.get(job.id).progress == {"phase": "training", "epoch": 1}
    ledger.succeed(attempt, {"version": 1})

    done = ledger.get(job.id)
    assert (done.state, done.result, done.error) == (JobState.SUCCEEDED, {"version": 1}, None)
    assert done.finished_at is not None
    assert done.lease_until is None
    assert states(ledger, job) == ["queued", "running", "succeeded"]
    assert ledger.take(job.id, "w2", LEASE_S) is None


def test_a_held_job_is_not_taken_by_another(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    taken(ledger, job)

    assert ledger.take(job.id, "w2", LEASE_S) is None
    assert ledger.get(job.id).worker == "w1"


def test_a_job_nobody_made_is_not_found(ledger: JobLedger) -> None:
    for hostile in ("job_0", "", "job_\x00", "job_\ud800", "'; DROP TABLE jobs"):
        with pytest.raises(NotFound):
            ledger.get(hostile)
        with pytest.raises(NotFound):
            ledger.take(hostile, "w1", LEASE_S)
        with pytest.raises(NotFound):
            ledger.request_cancel(hostile)
        with pytest.raises(NotFound):
            ledger.mark_dispatched(hostile)
        assert ledger.events(hostile) == []


@pytest.mark.parametrize("write", WRITES)
def test_a_zombie_is_refused_after_its_job_was_taken_over(ledger: JobLedger, write: str) -> None:
    job = ledger.create("finetune", {})
    zombie = taken(ledger, job, lease_s=OVER)
    heir = taken(ledger, job, worker="w2")
    before = ledger.get(job.id)
    assert (before.attempt, before.worker) == (2, "w2")

    with pytest.raises(LeaseLost, match=job.id):
        WRITES[write](ledger, zombie)

    assert ledger.get(job.id) == before
    ledger.succeed(heir, {"by": "heir"})


@pytest.mark.parametrize("write", WRITES)
def test_a_zombie_is_refused_after_its_job_has_ended(ledger: JobLedger, write: str) -> None:
    job = ledger.create("finetune", {})
    zombie = taken(ledger, job, lease_s=OVER)
    ledger.succeed(taken(ledger, job, worker="w2"), {"by": "heir"})

    with pytest.raises(LeaseLost):
        WRITES[write](ledger, zombie)

    assert ledger.get(job.id).result == {"by": "heir"}


def test_a_late_worker_that_nobody_replaced_still_holds_its_job(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    late = taken(ledger, job, lease_s=OVER)

    assert ledger.renew(late, LEASE_S) is False
    assert ledger.take(job.id, "w2", LEASE_S) is None


def test_a_lease_ends_by_itself(ledger: JobLedger, database: Database) -> None:
    job = ledger.create("finetune", {})
    taken(ledger, job)
    let_pass(database, LEASE_S / 2)
    assert ledger.take(job.id, "w2", LEASE_S) is None

    let_pass(database, LEASE_S / 2)

    assert taken(ledger, job, worker="w2").job.attempt == 2


def test_ending_twice_the_same_way_is_ending_once(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    attempt = taken(ledger, job)
    ledger.succeed(attempt, {"version": 1})

    ledger.succeed(attempt, {"version": 1})

    assert states(ledger, job) == ["queued", "running", "succeeded"]
    with pytest.raises(LeaseLost):
        ledger.fail(attempt, "x", "y")


def test_a_failed_job_says_why(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    ledger.fail(taken(ledger, job), "export_mismatch", "logits differ by 0.3")

    failed = ledger.get(job.id)
    assert (failed.state, failed.error) == (
        JobState.FAILED,
        {"code": "export_mismatch", "detail": "logits differ by 0.3"},
    )
    assert ledger.events(job.id)[-1].data["error"] == failed.error
    assert ledger.take(job.id, "w2", LEASE_S) is None


def test_silent_workers_use_the_attempts_up(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {}, max_attempts=2)
    taken(ledger, job, worker="w1", lease_s=OVER)
    taken(ledger, job, worker="w2", lease_s=OVER)

    assert ledger.take(job.id, "w3", LEASE_S) is None

    failed = ledger.get(job.id)
    assert failed.state == JobState.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "attempts_exhausted"
    assert "2 attempts" in failed.error["detail"]
    assert "w2" in failed.error["detail"]
    assert states(ledger, job) == ["queued", "running", "running", "failed"]


def test_a_retried_failure_waits_until_its_attempts_are_used_up(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {}, max_attempts=2)
    ledger.fail(taken(ledger, job), "out_of_memory", "the kernel killed it", retry=True)
    waiting = ledger.get(job.id)
    assert (waiting.state, waiting.attempt) == (JobState.QUEUED, 1)
    assert waiting.error == {"code": "out_of_memory", "detail": "the kernel killed it"}

    ledger.fail(taken(ledger, job), "out_of_memory", "killed again", retry=True)

    failed = ledger.get(job.id)
    assert failed.state == JobState.FAILED
    assert failed.error == {
        "code": "attempts_exhausted",
        "detail": "Given up after 2 attempts. The last one failed: killed again",
    }


def test_a_success_forgets_the_error_of_an_earlier_attempt(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    ledger.fail(taken(ledger, job), "out_of_memory", "the kernel killed it", retry=True)
    ledger.succeed(taken(ledger, job), {})

    assert ledger.get(job.id).error is None


def test_a_released_job_waits_as_if_it_had_not_been_taken(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {}, max_attempts=1)
    for _ in range(3):
        ledger.release(taken(ledger, job))

    waiting = ledger.get(job.id)
    assert (waiting.state, waiting.attempt, waiting.worker) == (JobState.QUEUED, 0, None)
    assert taken(ledger, job).job.attempt == 1


def test_a_queued_job_is_cancelled_at_once(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})

    cancelled = ledger.request_cancel(job.id)

    assert (cancelled.state, cancelled.on_cancel) == (JobState.CANCELLED, "discard")
    assert cancelled.finished_at is not None
    assert ledger.take(job.id, "w1", LEASE_S) is None


def test_the_holder_of_a_job_is_asked_to_stop_and_ends_it(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    attempt = taken(ledger, job)

    asked = ledger.request_cancel(job.id, on_cancel="keep")
    assert (asked.state, asked.cancel_requested, asked.on_cancel) == (JobState.RUNNING, True, "keep")
    assert ledger.request_cancel(job.id, on_cancel="keep") == asked
    assert ledger.renew(attempt, LEASE_S) is True
    ledger.end_cancelled(attempt, {"version": 4})

    ended = ledger.get(job.id)
    assert (ended.state, ended.result) == (JobState.CANCELLED, {"version": 4})
    assert [e.kind for e in ledger.events(job.id)] == ["state", "state", "cancel_requested", "state"]


def test_the_last_word_on_what_a_cancelled_job_leaves_counts(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    taken(ledger, job)
    ledger.request_cancel(job.id, on_cancel="keep")

    assert ledger.request_cancel(job.id, on_cancel="discard").on_cancel == "discard"


def test_a_cancellation_without_a_word_changes_nothing_that_was_said(ledger: JobLedger) -> None:
    kept, discarded = ledger.create("finetune", {}), ledger.create("finetune", {})
    for job in (kept, discarded):
        taken(ledger, job)
    ledger.request_cancel(kept.id, "keep_best")

    assert ledger.request_cancel(kept.id).on_cancel == "keep_best"
    assert ledger.request_cancel(discarded.id).on_cancel == "discard"
    assert ledger.request_cancel(kept.id, "discard").on_cancel == "discard"


def test_a_cancelled_job_has_no_error_of_an_earlier_attempt(ledger: JobLedger) -> None:
    waiting, running, silent, released = (ledger.create("finetune", {}) for _ in range(4))
    for job in (waiting, running, silent, released):
        ledger.fail(taken(ledger, job), "disk_full", "The disk is full.", retry=True)
    attempt, _, third = taken(ledger, running), taken(ledger, silent, lease_s=OVER), taken(ledger, released)
    for job in (waiting, running, silent, released):
        ledger.request_cancel(job.id)
    ledger.end_cancelled(attempt)
    ledger.fail(third, "disk_full", "The disk is full again.", retry=True)
    ledger.to_requeue(older_than_s=60)

    for job in (waiting, running, silent, released):
        ended = ledger.get(job.id)
        assert (ended.state, ended.error) == (JobState.CANCELLED, None)


def test_what_is_written_with_the_end_of_a_job_is_written_with_it_or_not_at_all(
    ledger: JobLedger, database: Database
) -> None:
    datasets = DatasetRegistry(database)
    dataset = datasets.add("ants", prefix="datasets/x")
    attempt = taken(ledger, ledger.create("ingest", {"dataset": dataset.id}))

    def write(fail: bool) -> None:
        with ledger.transaction(attempt) as transaction:
            datasets.record_check(dataset.id, DatasetState.READY, content_hash="sha256:1", within=transaction)
            ledger.succeed(attempt, {"dataset": dataset.id}, within=transaction)
            if fail:
                raise RuntimeError("the process dies")

    with pytest.raises(RuntimeError):
        write(fail=True)
    assert datasets.get(dataset.id).state == DatasetState.CHECKING
    assert ledger.get(attempt.job.id).state == JobState.RUNNING

    write(fail=False)
    assert datasets.get(dataset.id).state == DatasetState.READY
    assert ledger.get(attempt.job.id).state == JobState.SUCCEEDED


def test_a_zombie_begins_no_transaction(ledger: JobLedger) -> None:
    job = ledger.create("ingest", {})
    zombie = taken(ledger, job, lease_s=OVER)
    taken(ledger, job, worker="w2")
    with pytest.raises(LeaseLost, match=job.id), ledger.transaction(zombie):
        pytest.fail("a zombie writes")


def cancel_waiting(ledger: JobLedger, job: Job) -> None:
    ledger.request_cancel(job.id)


def cancel_between_attempts(ledger: JobLedger, job: Job) -> None:
    ledger.fail(taken(ledger, job), "disk_full", "The disk is full.", retry=True)
    ledger.request_cancel(job.id)


def cancel_while_the_holder_is_silent(ledger: JobLedger, job: Job) -> None:
    taken(ledger, job, lease_s=OVER)
    ledger.request_cancel(job.id)
    ledger.to_requeue(older_than_s=60)


def use_the_attempts_up(ledger: JobLedger, job: Job) -> None:
    for _ in range(3):
        taken(ledger, job, lease_s=OVER)
    ledger.to_requeue(older_than_s=60)


def use_the_attempts_up_and_take(ledger: JobLedger, job: Job) -> None:
    for _ in range(3):
        taken(ledger, job, lease_s=OVER)
    assert ledger.take(job.id, "w", LEASE_S) is None


@pytest.mark.parametrize("knows_its_job", [True, False])
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (cancel_waiting, "cancelled"),
        (cancel_between_attempts, "cancelled"),
        (cancel_while_the_holder_is_silent, "cancelled"),
        (use_the_attempts_up, "Given up after 3 attempts"),
        (use_the_attempts_up_and_take, "Given up after 3 attempts"),
    ],
)
def test_a_dataset_whose_check_ends_without_a_worker_is_refused_and_says_why(
    ledger: JobLedger, database: Database, end: Callable[[JobLedger, Job], None], reason: str, knows_its_job: bool
) -> None:
    datasets = DatasetRegistry(database)
    job_id = new_id("job")
    dataset = datasets.add("ants", prefix="datasets/x", job_id=job_id if knows_its_job else None)
    other = datasets.add("bees", prefix="datasets/y", job_id="job_of_another")
    job = ledger.create("ingest", {"dataset": dataset.id}, job_id=job_id)

    end(ledger, job)

    assert ledger.get(job_id).state.is_terminal
    refused = datasets.get(dataset.id)
    assert refused.state == DatasetState.REFUSED
    assert reason in refused.report["refusals"][0]
    assert datasets.get(other.id).state == DatasetState.CHECKING


def test_a_dataset_that_is_ready_outlives_jobs_that_fail(ledger: JobLedger, database: Database) -> None:
    datasets = DatasetRegistry(database)
    dataset = datasets.add("ants", prefix="datasets/x", state=DatasetState.READY, content_hash="sha256:1")
    use_the_attempts_up(ledger, ledger.create("finetune", {"dataset": dataset.id}))
    assert datasets.get(dataset.id) == dataset


def test_a_job_that_has_ended_cannot_be_cancelled(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    ledger.succeed(taken(ledger, job), {})

    assert ledger.request_cancel(job.id).state == JobState.SUCCEEDED
    assert ledger.get(job.id).cancel_requested is False


def test_a_cancelled_job_whose_holder_died_is_not_run_again(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    taken(ledger, job, lease_s=OVER)
    ledger.request_cancel(job.id)

    assert ledger.take(job.id, "w2", LEASE_S) is None
    assert ledger.get(job.id).state == JobState.CANCELLED


def test_a_job_to_be_cancelled_is_not_queued_again(ledger: JobLedger) -> None:
    for give_back in (ledger.release, lambda attempt: ledger.fail(attempt, "x", "y", retry=True)):
        job = ledger.create("finetune", {})
        attempt = taken(ledger, job)
        ledger.request_cancel(job.id)
        give_back(attempt)

        assert ledger.get(job.id).state == JobState.CANCELLED
        assert ledger.get(job.id).finished_at is not None


def test_a_job_without_a_single_attempt_is_refused(ledger: JobLedger) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        ledger.create("finetune", {}, max_attempts=0)


# Idempotency keys


def test_the_same_request_under_the_same_key_is_the_same_job(ledger: JobLedger) -> None:
    key = Idempotency("key-1 POST /v1/finetunes", "abc", "sha-of-body")
    first = ledger.create("finetune", {"seed": 1}, idempotency=key)
    taken(ledger, first)

    again = ledger.create("finetune", {"seed": 1}, idempotency=key)

    assert (again.id, again.state) == (first.id, JobState.RUNNING)
    assert len(ledger.list(10).items) == 1


def test_another_request_under_the_same_key_is_a_conflict(ledger: JobLedger) -> None:
    ledger.create("finetune", {}, idempotency=Idempotency("scope", "abc", "sha-1"))

    with pytest.raises(Conflict, match="'abc'"):
        ledger.create("finetune", {}, idempotency=Idempotency("scope", "abc", "sha-2"))
    assert len(ledger.list(10).items) == 1


def test_keys_of_different_scopes_have_nothing_to_do_with_each_other(ledger: JobLedger) -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("a\x00", "bc"), ("a", "\ud800")]
    made = {ledger.create("finetune", {}, idempotency=Idempotency(*pair, "sha")).id for pair in pairs}

    assert len(made) == len(pairs)


def test_a_key_is_forgotten_after_a_day(ledger: JobLedger, database: Database) -> None:
    first = ledger.create("finetune", {}, idempotency=Idempotency("scope", "abc", "sha-1"))
    with database.session() as session:
        yesterday = from_now(-idempotency.REMEMBERED_S - 1)
        session.execute(update(IdempotencyRow).values(created_at=yesterday))

    second = ledger.create("finetune", {}, idempotency=Idempotency("scope", "abc", "sha-2"))

    assert second.id != first.id
    assert ledger.create("finetune", {}, idempotency=Idempotency("scope", "abc", "sha-2")).id == second.id


# Events


def test_events_are_numbered_and_read_from_where_the_reader_was(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    attempt = taken(ledger, job)
    for epoch in range(3):
        ledger.report_progress(attempt, {"epoch": epoch})

    seen = ledger.events(job.id)
    assert [event.id for event in seen] == [1, 2, 3, 4, 5]
    assert [event.data for event in seen[2:]] == [{"epoch": 0}, {"epoch": 1}, {"epoch": 2}]
    assert ledger.events(job.id, after=3) == seen[3:]
    assert ledger.events(job.id, after=1, limit=2) == seen[1:3]
    assert ledger.events(job.id, after=10**30) == []
    assert ledger.events(job.id, after=-(10**30)) == seen


def test_old_progress_is_forgotten_and_changes_of_state_are_not(
    ledger: JobLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PROGRESS_KEPT", 20)
    monkeypatch.setattr(events, "_PRUNE_EVERY", 10)
    job = ledger.create("finetune", {})
    attempt = taken(ledger, job)
    for step in range(98):
        ledger.report_progress(attempt, {"step": step})

    told = ledger.events(job.id)
    assert [event.kind for event in told[:2]] == ["state", "state"]
    assert [event.data["step"] for event in told[2:]] == list(range(78, 98))


def test_progress_may_hold_what_json_cannot(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {"note": "\x00 and \ud800"})
    attempt = taken(ledger, job)
    ledger.report_progress(attempt, {"loss": float("nan"), "best": [float("inf"), 0.5]})

    assert ledger.get(job.id).progress == {"loss": None, "best": [None, 0.5]}
    assert ledger.get(job.id).request == {"note": "\x00 and \ud800"}


# The reconciler


def test_a_job_without_a_message_is_sent_again_once(ledger: JobLedger) -> None:
    job = ledger.create("finetune", {})
    assert ledger.to_requeue(older_than_s=30) == []

    assert [found.id for found in ledger.to_requeue(older_than_s=0)] == [job.id]
    assert ledger.to_requeue(older_than_s=30) == []


def test_a_job_that_was_just_sent_is_left_alone(ledger: JobLedger, database: Database) -> None:
    job = ledger.create("finetune", {})
    let_pass(database, 40)
    ledger.mark_dispatched(job.id)

    assert ledger.to_requeue(older_than_s=30) == []
    let_pass(database, 40)
    assert [found.id for found in ledger.to_requeue(older_than_s=30)] == [job.id]


def test_a_silent_workers_job_is_sent_again_once_and_can_be_taken(ledger: JobLedger, database: Database) -> None:
    job = ledger.create("finetune", {})
    ledger.mark_dispatched(job.id)
    taken(ledger, job)
    assert ledger.to_requeue(older_than_s=30) == []
    let_pass(database, LEASE_S + 1)

    assert [found.id for found in ledger.to_requeue(older_than_s=30)] == [job.id]
    assert ledger.to_requeue(older_than_s=30) == []
    assert taken(ledger, job, worker="w2").job.attempt == 2


def test_a_released_job_is_sent_again(ledger: JobLedger, database: Database) -> None:
    job = ledger.create("finetune", {})
    ledger.mark_dispatched(job.id)
    ledger.release(taken(ledger, job))
    let_pass(database, 31)

    assert [found.id for found in ledger.to_requeue(older_than_s=30)] == [job.id]


def test_the_reconciler_ends_what_no_worker_needs_to_touch(ledger: JobLedger) -> None:
    exhausted = ledger.create("finetune", {}, max_attempts=1)
    unwanted = ledger.create("finetune", {})
    taken(ledger, exhausted, lease_s=OVER)
    taken(ledger, unwanted, lease_s=OVER)
    ledger.request_cancel(unwanted.id)

    assert ledger.to_requeue(older_than_s=30) == []
    assert ledger.get(exhausted.id).state == JobState.FAILED
    assert ledger.get(unwanted.id).state == JobState.CANCELLED


def test_jobs_that_work_or_have_ended_are_not_sent_again(ledger: JobLedger) -> None:
    taken(ledger, ledger.create("finetune", {}))
    ledger.succeed(taken(ledger, ledger.create("finetune", {})), {})

    assert ledger.to_requeue(older_than_s=0) == []


# Listing, use and age


def test_jobs_are_listed_newest_first_and_filtered(ledger: JobLedger) -> None:
    first = ledger.create("finetune", {"model": "ants-bees", "dataset": "builtin:digits"})
    second = ledger.create("classify", {"model": "100%_sure"})
    third = ledger.create("publish", {"model": "imagenet"})
    taken(ledger, second)

    def ids(**filters: Any) -> list[str]:
        return [job.id for job in ledger.list(10, **filters).items]

    assert ids() == [third.id, second.id, first.id]
    assert ids(state=JobState.RUNNING) == [second.id]
    assert ids(kind="publish") == [third.id]
    assert ids(search="BEES") == [first.id]
    assert ids(search="digits") == [first.id]
    assert ids(search="%_") == [second.id]
    assert ids(search=third.id) == [third.id]
    for hostile in ("\x00", "\ud800", "_", "\\"):
        ids(search=hostile)
        ids(kind=hostile)
    assert ids(search="\x00") == []


def test_pages_neither_repeat_nor_skip_a_job_while_others_arrive(ledger: JobLedger) -> None:
    made = [ledger.create("finetune", {}).id for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = ledger.list(2, cursor)
        seen += [job.id for job in page.items]
        ledger.create("finetune", {})
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == made[::-1]


def test_a_made_up_cursor_is_refused(ledger: JobLedger) -> None:
    for cursor in ("x", "é", "MQ", "bnVsbA", "Ilx1MDAwMCI", "W1tb" * 10_000):
        with pytest.raises(InvalidCursor):
            ledger.list(10, cursor)


def test_a_job_for_a_dataset_that_is_gone_is_refused(ledger: JobLedger) -> None:
    with pytest.raises(NotFound, match="ds_GONE"):
        ledger.create("finetune", {"dataset": "ds_GONE"}, idempotency=Idempotency("s", "k", "f"))
    assert ledger.list(10).items == ()


def test_old_jobs_are_pruned_with_their_events_and_keys(ledger: JobLedger, database: Database) -> None:
    key = Idempotency("scope", "abc", "sha")
    old = ledger.create("finetune", {}, idempotency=key)
    ledger.succeed(taken(ledger, old), {})
    running = ledger.create("finetune", {})
    taken(ledger, running)
    assert ledger.prune(timedelta(hours=1)) == 0
    let_pass(database, 3601)
    recent = ledger.create("finetune", {})
    ledger.request_cancel(recent.id)

    assert ledger.prune(timedelta(hours=1)) == 1

    assert [job.id for job in ledger.list(10).items] == [recent.id, running.id]
    assert ledger.events(old.id) == []
    assert ledger.create("finetune", {}, idempotency=key).id != old.id


def test_jobs_are_counted_by_kind_and_state(ledger: JobLedger, database: Database) -> None:
    assert ledger.count() == ()
    first = ledger.create("finetune", {})
    let_pass(database, 1000)
    ledger.create("finetune", {})
    taken(ledger, ledger.create("ingest", {}))
    counts = {(count.kind, count.state): count for count in ledger.count()}
    assert {key: count.jobs for key, count in counts.items()} == {
        ("finetune", JobState.QUEUED): 2,
        ("ingest", JobState.RUNNING): 1,
    }
    # The age is that of the one that waits longest.
    waits = counts["finetune", JobState.QUEUED].oldest_s
    assert waits == pytest.approx(1000, abs=100)
    ledger.request_cancel(first.id)
    waiting = next(count for count in ledger.count() if count.state == JobState.QUEUED)
    assert waiting.jobs == 1


def test_a_job_that_another_leaves_behind_is_its_owners_and_of_its_trace(
    ledger: JobLedger, database: Database
) -> None:
    """It is made although its owner has as many jobs waiting as it may."""
    owner = Owner("key", most_waiting=1)
    first = ledger.create("finetune", {}, request_id="req_1", traceparent="00-a-b-01", owner=owner)
    attempt = ledger.take(first.id, "w1", 60)
    assert attempt is not None
    ledger.create("finetune", {}, owner=owner)
    with ledger.transaction(attempt) as transaction:
        left = ledger.follow_up(attempt, "variants", {"model": "m"}, within=transaction)
    assert ledger.get(left.id) == left
    assert (left.state, left.attempt, left.request) == (JobState.QUEUED, 0, {"model": "m"})
    assert (left.request_id, left.traceparent) == ("req_1", "00-a-b-01")
    with database.session(read_only=True) as session:
        row = session.get(JobRow, left.id)
        assert row is not None
        assert row.owner == "key"


def test_a_job_is_left_behind_with_its_transaction_or_not_at_all(ledger: JobLedger) -> None:
    attempt = ledger.take(ledger.create("finetune", {}).id, "w1", 60)
    assert attempt is not None

    def die() -> None:
        with ledger.transaction(attempt) as transaction:
            ledger.follow_up(attempt, "variants", {}, within=transaction)
            raise RuntimeError("the process dies")

    with pytest.raises(RuntimeError):
        die()
    assert [job.kind for job in ledger.list(10).items] == ["finetune"]


def test_whether_somebody_waits_counts_what_waited_long_enough(ledger: JobLedger, database: Database) -> None:
    kinds = {"finetune", "publish"}
    ledger.create("variants", {})
    running = ledger.create("finetune", {})
    ledger.take(running.id, "w1", 60)
    let_pass(database, 5)
    assert not ledger.has_waiting(kinds, 1)
    ledger.create("publish", {})
    assert not ledger.has_waiting(kinds, 1)
    let_pass(database, 5)
    assert ledger.has_waiting(kinds, 1)
