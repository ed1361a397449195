"""The lease is renewed while the work goes on, and hears when it shall stop."""

import time
from collections.abc import Callable

import pytest
from support.trainer import QUICK, Trainer

from models.training.interruption import Interrupted
from storage.errors import LeaseLost
from storage.jobs import Attempt, Job
from workers.training.lease import Lease
from workers.training.reporter import Reporter


def taken(trainer: Trainer, lease_s: float = 30) -> tuple[Job, Attempt]:
    job = trainer.create(**QUICK)
    attempt = trainer.ledger.take(job.id, "here", lease_s)
    assert attempt is not None
    return job, attempt


def until(act: Callable[[], object], timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        act()
        time.sleep(0.02)


def test_a_held_job_stays_held_beyond_its_first_lease(trainer: Trainer) -> None:
    job, attempt = taken(trainer, lease_s=0.6)
    with Lease(trainer.ledger, attempt, 0.6) as lease:
        time.sleep(1.5)
        lease.check()
        assert trainer.ledger.take(job.id, "elsewhere", 30) is None
    time.sleep(0.8)
    assert trainer.ledger.take(job.id, "elsewhere", 30) is not None


def test_a_cancellation_is_heard_within_two_seconds(trainer: Trainer) -> None:
    job, attempt = taken(trainer)
    with Lease(trainer.ledger, attempt, 30) as lease:
        lease.check()
        trainer.ledger.request_cancel(job.id)
        asked = time.monotonic()
        with pytest.raises(Interrupted) as caught:
            until(lease.check)
        assert time.monotonic() - asked < 2
        assert (caught.value.reason, caught.value.keep_best, caught.value.resume) == ("cancelled", False, False)


def test_keeping_the_best_stops_once_and_then_lets_the_work_end(trainer: Trainer) -> None:
    job, attempt = taken(trainer)
    with Lease(trainer.ledger, attempt, 30) as lease:
        trainer.ledger.request_cancel(job.id, on_cancel="keep_best")
        with pytest.raises(Interrupted) as caught:
            until(lease.check)
        assert caught.value.keep_best
        lease.keep()
        lease.check()
        trainer.ledger.request_cancel(job.id, on_cancel="discard")
        with pytest.raises(Interrupted):
            until(lease.check)


def test_a_job_taken_by_another_is_lost(trainer: Trainer) -> None:
    job, attempt = taken(trainer, lease_s=0.01)
    time.sleep(0.05)
    assert trainer.ledger.take(job.id, "elsewhere", 30) is not None
    with Lease(trainer.ledger, attempt, 30) as lease, pytest.raises(LeaseLost):
        until(lease.check)


def test_termination_asks_for_a_checkpoint(trainer: Trainer) -> None:
    _, attempt = taken(trainer)
    with Lease(trainer.ledger, attempt, 30) as lease:
        lease.terminate()
        with pytest.raises(Interrupted) as caught:
            lease.check()
    assert (caught.value.reason, caught.value.resume) == ("terminated", True)


def test_progress_says_phase_epoch_speed_and_time_left(trainer: Trainer) -> None:
    job, attempt = taken(trainer)
    with Lease(trainer.ledger, attempt, 30) as lease:
        reporter = Reporter(trainer.ledger, attempt, lease)
        reporter.remember(strategy="full")
        reporter.epochs = 4
        reporter.phase("training")
        for step in range(1, 5):
            time.sleep(0.2)
            reporter.step(2, step, 10, 16, 0.5 / step, 0.25 * step)
    progress = trainer.progress(job)
    assert (progress["phase"], progress["epoch"], progress["epochs"]) == ("training", 2, 4)
    assert progress["strategy"] == "full"
    assert progress["attempt"] == 1
    # A step every 0.2 s; 40 steps in all, of which 13 or 14 are done.
    assert 2.5 < progress["eta_s"] < 12
    assert 50 < progress["images_per_second"] < 200
    kinds = [event.data.get("phase") for event in trainer.ledger.events(job.id) if event.kind == "progress"]
    assert 2 <= len(kinds) <= 5
