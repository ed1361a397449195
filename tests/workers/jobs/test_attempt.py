"""However an attempt goes, its job's row says how; what is fenced stays fenced."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from models.errors import ExportFailed
from models.training.interruption import Interrupted
from storage.audit import AuditLog
from storage.clock import from_now
from storage.database import Database
from storage.datasets import DatasetRegistry, DatasetState
from storage.errors import DatabaseUnavailable, LeaseLost
from storage.job_ledger import Attempt, Job, JobLedger, JobState
from storage.tables import JobRow
from workers.contract.jobs.datasets import IngestRequest, IngestResult
from workers.jobs.attempt import RunningAttempt, run_attempt, take

RESULT = IngestResult(dataset="ds_1", images=3)


def taken(ledger: JobLedger, **request: Any) -> Attempt:
    attempt = take(ledger, ledger.create("ingest", request).id, "here", 30)
    assert attempt is not None
    return attempt


def run(ledger: JobLedger, work: Callable[[RunningAttempt], None], attempt: Attempt | None = None) -> Job:
    attempt = attempt or taken(ledger)
    run_attempt(ledger, attempt, work, lease_s=30)
    return ledger.get(attempt.job.id)


def failing(error: BaseException) -> Callable[[RunningAttempt], None]:
    def work(_attempt: RunningAttempt) -> None:
        raise error

    return work


def be_overtaken(ledger: JobLedger, database: Database, job_id: str) -> Attempt:
    with database.session() as session:
        session.execute(update(JobRow).values(lease_until=from_now(-1)))
    heir = ledger.take(job_id, "elsewhere", 30)
    assert heir is not None
    return heir


def test_work_that_succeeds_ends_its_job(ledger: JobLedger) -> None:
    job = run(ledger, lambda attempt: attempt.succeed(RESULT))
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    assert job.result == {"dataset": "ds_1", "images": 3, "faults": {}, "duplicate_of": None}


def test_what_the_work_changes_is_on_record_with_its_job_and_the_request_behind_it(
    ledger: JobLedger, database: Database
) -> None:
    datasets = DatasetRegistry(database)
    dataset = datasets.add("Ants", prefix="datasets/x")
    made = ledger.create("ingest", {"dataset": dataset.id}, request_id="req-1")
    attempt = take(ledger, made.id, "here", 30)

    def work(running: RunningAttempt) -> None:
        with running.transaction() as transaction:
            datasets.record_check(dataset.id, DatasetState.READY, content_hash="1", within=transaction)
            running.succeed(RESULT, within=transaction)

    run(ledger, work, attempt)
    (entry,) = AuditLog(database).list(10, actor="worker").items
    assert (entry.action, entry.subject) == ("dataset.check", dataset.id)
    assert (entry.job_id, entry.request_id) == (made.id, "req-1")
    assert [found.action for found in AuditLog(database).list(10, actor="system").items] == [
        "job.create",
        "dataset.create",
    ]


def test_the_request_is_read_from_the_row_and_what_is_newer_is_ignored(ledger: JobLedger) -> None:
    seen: list[IngestRequest] = []

    def work(attempt: RunningAttempt) -> None:
        seen.append(attempt.request(IngestRequest))
        attempt.succeed(RESULT)

    row = {"dataset": "x", "upload": "u", "name": "n", "on_fault": "refuse", "added_later": {"x": 1}}
    run(ledger, work, taken(ledger, **row))
    assert seen == [IngestRequest(dataset="x", upload="u", name="n", on_fault="refuse")]


def test_a_row_that_cannot_be_read_fails_its_job(ledger: JobLedger) -> None:
    job = run(ledger, lambda attempt: attempt.succeed(RESULT) if attempt.request(IngestRequest) else None)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "invalid_request"


def test_work_that_ends_nothing_is_our_fault(ledger: JobLedger) -> None:
    job = run(ledger, lambda _: None)
    assert job.error is not None
    assert (job.state, job.error["code"]) == (JobState.FAILED, "internal")


def test_a_failure_is_told_by_the_table(ledger: JobLedger) -> None:
    job = run(ledger, failing(ExportFailed("too large")))
    assert (job.state, job.error) == (JobState.FAILED, {"code": "export_failed", "detail": "too large"})


def test_a_failure_that_may_pass_is_tried_again_until_the_attempts_are_used_up(ledger: JobLedger) -> None:
    full = OSError(28, "No space left on device", "/srv/data/x")
    job = run(ledger, failing(full))
    assert (job.state, job.attempt) == (JobState.QUEUED, 1)
    assert job.error == {"code": "disk_full", "detail": "The worker's disk is full."}
    for _ in range(2):
        attempt = take(ledger, job.id, "here", 30)
        job = run(ledger, failing(full), attempt)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "attempts_exhausted"
    assert "The worker's disk is full." in job.error["detail"]


def test_an_unexpected_error_is_logged_with_its_words_and_told_without_them(ledger: JobLedger) -> None:
    with capture_logs() as logs:
        job = run(ledger, failing(KeyError("/srv/secret")))
    assert job.error is not None
    assert "/srv" not in job.error["detail"]
    assert any(entry["event"] == "job.failed" and entry["log_level"] == "error" for entry in logs)


def test_a_cancelled_job_is_ended_as_cancelled(ledger: JobLedger) -> None:
    def work(attempt: RunningAttempt) -> None:
        ledger.request_cancel(attempt.job.id)
        while True:
            attempt.check()

    job = run(ledger, work)
    assert (job.state, job.result, job.error) == (JobState.CANCELLED, None, None)


def test_the_best_so_far_is_kept_as_the_result_of_a_cancelled_job(ledger: JobLedger) -> None:
    def work(attempt: RunningAttempt) -> None:
        ledger.request_cancel(attempt.job.id, "keep_best")
        with suppress(Interrupted):
            while True:
                attempt.check()
        attempt.lease.keep_result()
        attempt.succeed(RESULT)

    job = run(ledger, work)
    assert job.state == JobState.CANCELLED
    assert job.result is not None


def test_a_stopping_worker_gives_its_job_back(ledger: JobLedger) -> None:
    stop = threading.Event()

    def work(attempt: RunningAttempt) -> None:
        stop.set()
        attempt.check()

    attempt = taken(ledger)
    run_attempt(ledger, attempt, work, lease_s=30, stop=stop)
    job = ledger.get(attempt.job.id)
    assert (job.state, job.attempt, job.error) == (JobState.QUEUED, 0, None)


def test_a_zombie_changes_nothing_and_raises_nothing(ledger: JobLedger, database: Database) -> None:
    """Neither by success, nor by failure, nor by what it writes beside its row; and it is not called cancelled."""
    datasets = DatasetRegistry(database)
    dataset = datasets.add("ants", prefix="datasets/x")

    def write(attempt: RunningAttempt) -> None:
        with attempt.transaction() as transaction:
            datasets.record_check(dataset.id, DatasetState.REFUSED, within=transaction)
            attempt.succeed(RESULT, within=transaction)

    for ending in (lambda a: a.succeed(RESULT), failing(ExportFailed("x")), failing(OSError(28, "full")), write):
        attempt = taken(ledger, dataset=dataset.id)
        heir = be_overtaken(ledger, database, attempt.job.id)
        with capture_logs() as logs:
            job = run(ledger, ending, attempt)
        assert (job.state, job.worker, job.attempt) == (JobState.RUNNING, "elsewhere", 2)
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"][-1] == "job.lease_lost"
        assert datasets.get(dataset.id).state == DatasetState.CHECKING
        ledger.succeed(heir, {})


def test_an_end_that_the_database_does_not_take_is_left_to_the_lease(
    ledger: JobLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("away")

    attempt = taken(ledger)
    with monkeypatch.context() as away, capture_logs() as logs:
        away.setattr(JobLedger, "succeed", refuse)
        away.setattr(JobLedger, "fail", refuse)
        run_attempt(ledger, attempt, lambda running: running.succeed(RESULT), lease_s=30)
    assert ledger.get(attempt.job.id).state == JobState.RUNNING
    assert "job.end_not_written" in [entry["event"] for entry in logs]


def test_what_fails_after_the_end_does_not_undo_it(ledger: JobLedger) -> None:
    def work(attempt: RunningAttempt) -> None:
        attempt.succeed(RESULT)
        raise OSError(28, "No space left on device")

    with capture_logs() as logs:
        job = run(ledger, work)
    assert job.state == JobState.SUCCEEDED
    assert "job.not_cleaned_up" in [entry["event"] for entry in logs]


def test_jobs_that_are_not_to_be_run_are_not_taken(ledger: JobLedger) -> None:
    ended = ledger.create("ingest", {})
    ledger.request_cancel(ended.id)
    assert take(ledger, ended.id, "here", 30) is None
    assert take(ledger, taken(ledger).job.id, "here", 30) is None
    assert take(ledger, "job_nobody_knows", "here", 30) is None


def test_a_database_that_is_away_leaves_the_job_to_the_reconciler(
    ledger: JobLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ledger.create("ingest", {})
    monkeypatch.setattr(JobLedger, "take", lambda *_: (_ for _ in ()).throw(DatabaseUnavailable("away")))
    assert take(ledger, job.id, "here", 30) is None


def test_progress_is_refused_to_a_zombie(ledger: JobLedger, database: Database) -> None:
    attempt = taken(ledger)
    be_overtaken(ledger, database, attempt.job.id)
    caught: list[BaseException] = []

    def work(running: RunningAttempt) -> None:
        try:
            running.report({"phase": "late"})
        except LeaseLost as error:
            caught.append(error)
            raise

    job = run(ledger, work, attempt)
    assert caught
    assert job.progress == {}


def test_an_end_whose_commit_fails_is_none(ledger: JobLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = taken(ledger)
    transaction = JobLedger.transaction

    @contextmanager
    def not_committed(self: JobLedger, attempt: Attempt) -> Iterator[Any]:
        with suppress(ZeroDivisionError), transaction(self, attempt) as within:
            yield within
            raise ZeroDivisionError  # as a connection that is lost: the transaction is rolled back
        raise DatabaseUnavailable("away")

    def work(running: RunningAttempt) -> None:
        with running.transaction() as within:
            running.succeed(RESULT, within=within)

    with monkeypatch.context() as away, capture_logs() as logs:
        away.setattr(JobLedger, "transaction", not_committed)
        run_attempt(ledger, attempt, work, lease_s=30)
    assert "job.not_cleaned_up" not in [entry["event"] for entry in logs]
    # Another attempt may do better.
    assert ledger.get(attempt.job.id).state == JobState.QUEUED
