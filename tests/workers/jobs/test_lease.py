"""The lease is renewed while the work goes on, and hears when it shall stop."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import update

from models.training.interruption import Interrupted
from storage.clock import from_now
from storage.database import Database
from storage.errors import LeaseLost
from storage.job_ledger import Attempt, JobLedger
from storage.tables import JobRow
from workers.jobs.lease import Lease


def taken(ledger: JobLedger, lease_s: float = 30) -> Attempt:
    attempt = ledger.take(ledger.create("finetune", {}).id, "here", lease_s)
    assert attempt is not None
    return attempt


def until_raised(check: Callable[[], None], timeout_s: float = 20) -> None:
    """Checks until it raises, which a test expects; returns if it never does."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        check()
        time.sleep(0.01)


def test_a_held_job_stays_held_beyond_its_first_lease(ledger: JobLedger, database: Database) -> None:
    attempt = taken(ledger)
    with database.session() as session:
        session.execute(update(JobRow).values(lease_until=from_now(0.05)))
    with Lease(ledger, attempt, 30) as lease:
        deadline = time.monotonic() + 20
        while (until := ledger.get(attempt.job.id).lease_until) is None or until.timestamp() < time.time() + 5:
            assert time.monotonic() < deadline, "the lease is not renewed"
            lease.check()
    assert ledger.take(attempt.job.id, "elsewhere", 30) is None


def test_a_cancellation_is_heard(ledger: JobLedger) -> None:
    attempt = taken(ledger)
    with Lease(ledger, attempt, 30) as lease:
        lease.check()
        ledger.request_cancel(attempt.job.id)
        with pytest.raises(Interrupted) as caught:
            until_raised(lease.check)
    assert (caught.value.reason, caught.value.keep_best, caught.value.resume) == ("cancelled", False, False)


def test_keeping_the_best_stops_once_and_then_lets_the_work_end(ledger: JobLedger) -> None:
    attempt = taken(ledger)
    with Lease(ledger, attempt, 30) as lease:
        ledger.request_cancel(attempt.job.id, on_cancel="keep_best")
        with pytest.raises(Interrupted) as caught:
            until_raised(lease.check)
        assert caught.value.keep_best
        lease.keep_result()
        lease.check()
        assert lease.is_cancelled
        ledger.request_cancel(attempt.job.id, on_cancel="discard")
        with pytest.raises(Interrupted):
            until_raised(lease.check)


def test_a_second_cancellation_without_a_word_lets_the_best_be_kept(ledger: JobLedger) -> None:
    attempt = taken(ledger)
    ledger.request_cancel(attempt.job.id, on_cancel="keep_best")
    with Lease(ledger, attempt, 0.3) as lease:
        with pytest.raises(Interrupted):
            until_raised(lease.check)
        lease.keep_result()
        ledger.request_cancel(attempt.job.id)
        until_raised(lease.check, timeout_s=0.5)
        assert lease.is_cancelled


def test_a_job_taken_by_another_is_lost_and_not_cancelled(ledger: JobLedger, database: Database) -> None:
    attempt = taken(ledger)
    with database.session() as session:
        session.execute(update(JobRow).values(lease_until=from_now(-1)))
    assert ledger.take(attempt.job.id, "elsewhere", 30) is not None
    ledger.request_cancel(attempt.job.id)
    with Lease(ledger, attempt, 30) as lease, pytest.raises(LeaseLost):
        until_raised(lease.check)


def test_a_stopping_worker_asks_for_a_checkpoint(ledger: JobLedger) -> None:
    stop = threading.Event()
    with Lease(ledger, taken(ledger), 30, stop) as lease:
        lease.check()
        stop.set()
        with pytest.raises(Interrupted) as caught:
            lease.check()
    assert (caught.value.reason, caught.value.resume, lease.is_stopping) == ("stopped", True, True)


def test_a_lease_that_cannot_be_renewed_until_its_end_is_lost(ledger: JobLedger, database: Database) -> None:
    """Nobody knows whether another worker has taken the job meanwhile: what this one writes may be refused."""
    attempt = taken(ledger)
    with Lease(ledger, attempt, 0.5) as lease:
        lease.check()
        with database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE jobs RENAME TO away")
        with pytest.raises(LeaseLost):
            until_raised(lease.check)


def test_the_best_is_kept_although_the_worker_stops_too(ledger: JobLedger) -> None:
    """A job that is given back once its cancellation was asked for is cancelled, with nothing kept."""
    stop, attempt = threading.Event(), taken(ledger)
    ledger.request_cancel(attempt.job.id, on_cancel="keep_best")
    with Lease(ledger, attempt, 0.3, stop) as lease:
        with pytest.raises(Interrupted):
            until_raised(lease.check)
        stop.set()
        with pytest.raises(Interrupted) as caught:
            lease.check()
        assert (caught.value.keep_best, caught.value.resume) == (True, False)
        lease.keep_result()
        lease.check()
