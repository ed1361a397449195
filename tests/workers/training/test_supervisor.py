"""The worker stays with its training process, and explains a death that the process itself cannot."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trainer import QUICK, Trainer

from storage.jobs import JobState
from workers.training.supervisor import Supervisor, why

LONG = {**QUICK, "recipe": {**QUICK["recipe"], "epochs": 500}}  # type: ignore[dict-item]


@pytest.fixture
def supervisor(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    for name, value in trainer.process_environment().items():
        monkeypatch.setenv(name, value)
    return Supervisor(lambda: trainer.ledger, "worker-1")


@pytest.fixture
def running(trainer: Trainer, supervisor: Supervisor, digits: Path) -> Iterator[tuple[str, threading.Thread]]:
    """A job in the middle of its training under a supervisor in a thread, as Celery has it."""
    trainer.use_digits(digits)
    job = trainer.create(**LONG)
    thread = threading.Thread(target=supervisor.run, args=(job.id,))
    thread.start()
    trainer.wait_for_phase(job, "training", 1)
    yield job.id, thread
    supervisor.stop()
    thread.join(60)


def child_of(supervisor: Supervisor) -> int:
    assert supervisor._child is not None
    return supervisor._child.pid


def test_a_killed_training_is_queued_again_at_once_with_the_reason(
    trainer: Trainer, supervisor: Supervisor, running: tuple[str, threading.Thread]
) -> None:
    job_id, thread = running
    os.kill(child_of(supervisor), signal.SIGKILL)
    thread.join(20)
    job = trainer.ledger.get(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 1)
    assert job.error is not None
    assert job.error["code"] == "trainer_killed"
    assert "ran out of memory" in job.error["detail"]
    assert job.worker is None


@pytest.mark.slow
def test_a_crash_names_its_signal(
    trainer: Trainer, supervisor: Supervisor, running: tuple[str, threading.Thread]
) -> None:
    job_id, thread = running
    os.kill(child_of(supervisor), signal.SIGSEGV)
    thread.join(20)
    error = trainer.ledger.get(job_id).error
    assert error is not None
    assert (error["code"], "SIGSEGV" in error["detail"]) == ("trainer_crashed", True)


def test_a_stopping_worker_gives_its_job_back_and_begins_no_other(
    trainer: Trainer,
    supervisor: Supervisor,
    running: tuple[str, threading.Thread],
    capfd: pytest.CaptureFixture[str],
) -> None:
    job_id, thread = running
    assert trainer.ledger.get(job_id).worker == "worker-1"
    supervisor.stop()
    thread.join(20)
    assert not thread.is_alive()
    job = trainer.ledger.get(job_id)
    assert (job.state, job.attempt, job.error) == (JobState.QUEUED, 0, None)
    assert supervisor.run(job_id) == 0
    assert trainer.ledger.get(job_id).state == JobState.QUEUED
    # What the training process says is in the worker's log.
    assert "training.interrupted" in capfd.readouterr().err


@pytest.mark.slow
def test_one_training_runs_at_a_time(
    trainer: Trainer, supervisor: Supervisor, running: tuple[str, threading.Thread]
) -> None:
    other = trainer.create(**QUICK)
    waiting = threading.Thread(target=supervisor.run, args=(other.id,))
    waiting.start()
    time.sleep(1)
    assert trainer.ledger.get(other.id).state == JobState.QUEUED
    supervisor.stop()
    waiting.join(60)
    assert trainer.ledger.get(other.id).state == JobState.QUEUED


def test_exit_codes_are_explained() -> None:
    assert why(-signal.SIGKILL)[0] == "trainer_killed"
    assert why(-signal.SIGABRT) == ("trainer_crashed", "The training process was ended by SIGABRT.")
    assert "exit code 3" in why(3)[1]
