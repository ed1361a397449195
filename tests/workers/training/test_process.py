"""The worker stays with its training process, and explains a death that the process itself cannot."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.past import let_pass
from support.trainer import QUICK, Trainer

from storage.job_ledger import Job, JobState
from system.ending import ending
from system.priority import TRAINER_NICENESS
from workers.jobs.failure import ProcessCrashed, ProcessKilled, failure_of
from workers.training.cleanup import work_folder
from workers.training.process import TrainingProcesses

LONG = {**QUICK, "recipe": {**QUICK["recipe"], "epochs": 500}}  # type: ignore[dict-item]

VARIANTS = {"model": "digits", "version": 1, "dataset": "builtin:digits"}


@pytest.fixture
def processes(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> TrainingProcesses:
    temporary = trainer.folder / "tmp"
    temporary.mkdir()
    for name, value in {**trainer.process_environment(), "TMPDIR": str(temporary)}.items():
        monkeypatch.setenv(name, value)
    return TrainingProcesses(trainer.ledger, "worker-1", lease_s=30, work=work_folder(trainer.settings.data))


@pytest.fixture
def running(
    trainer: Trainer, processes: TrainingProcesses, digits: Path
) -> Iterator[tuple[str, threading.Thread]]:
    """A job in the middle of its training, watched from a thread, as Celery has it."""
    trainer.use_digits(digits)
    job = trainer.create(**LONG)
    thread = threading.Thread(target=processes.run, args=(job.id,))
    thread.start()
    trainer.wait_for_phase(job, "training", 1)
    yield job.id, thread
    processes.stop()
    thread.join(60)


def pid_of(processes: TrainingProcesses) -> int:
    assert processes._process is not None
    return processes._process.pid


def test_a_killed_training_is_queued_again_at_once_with_the_reason(
    trainer: Trainer, processes: TrainingProcesses, running: tuple[str, threading.Thread]
) -> None:
    job_id, thread = running
    # It leaves the cores to images that somebody waits for.
    assert os.getpriority(os.PRIO_PROCESS, pid_of(processes)) == TRAINER_NICENESS
    os.kill(pid_of(processes), signal.SIGKILL)
    thread.join(20)
    job = trainer.ledger.get(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 1)
    assert job.error is not None
    assert job.error["code"] == "trainer_killed"
    assert "most often for want of memory" in job.error["detail"]
    assert job.worker is None


@pytest.mark.slow
def test_a_crash_names_its_signal(
    trainer: Trainer, processes: TrainingProcesses, running: tuple[str, threading.Thread]
) -> None:
    job_id, thread = running
    os.kill(pid_of(processes), signal.SIGSEGV)
    thread.join(20)
    error = trainer.ledger.get(job_id).error
    assert error is not None
    assert (error["code"], "SIGSEGV" in error["detail"]) == ("trainer_crashed", True)


@pytest.mark.slow
def test_a_stopping_worker_gives_its_job_back_and_begins_no_other(
    trainer: Trainer,
    processes: TrainingProcesses,
    running: tuple[str, threading.Thread],
    capfd: pytest.CaptureFixture[str],
) -> None:
    job_id, thread = running
    assert trainer.ledger.get(job_id).worker == "worker-1"
    processes.stop()
    thread.join(20)
    assert not thread.is_alive()
    job = trainer.ledger.get(job_id)
    assert (job.state, job.attempt, job.error) == (JobState.QUEUED, 0, None)
    processes.run(job_id)
    assert trainer.ledger.get(job_id).state == JobState.QUEUED
    # What the training process says is in the worker's log.
    assert "job.interrupted" in capfd.readouterr().err
    assert not list((trainer.folder / "tmp").iterdir())


def test_a_worker_that_stops_while_its_process_starts_gives_the_job_back(
    trainer: Trainer, processes: TrainingProcesses, digits: Path
) -> None:
    """Before the process has its handler of the signal, which then ends it without a word."""
    trainer.use_digits(digits)
    job = trainer.create(**QUICK)
    thread = threading.Thread(target=processes.run, args=(job.id,))
    thread.start()
    while processes._process is None:
        time.sleep(0.01)
    processes.stop()
    thread.join(30)
    found = trainer.ledger.get(job.id)
    assert (found.state, found.attempt, found.error) == (JobState.QUEUED, 0, None)


def test_a_training_that_ended_itself_since_it_came_to_no_end_costs_no_attempt(
    trainer: Trainer, processes: TrainingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stop_on_sigterm` ends such a process with 1, as this one does at once."""
    stuck = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)); "
        "print(flush=True); signal.pause()"
    )
    monkeypatch.setattr("workers.training.process.dying_with_parent", lambda _: [sys.executable, "-c", stuck])
    said = threading.Event()
    monkeypatch.setattr("workers.training.process.sys.stderr.write", lambda _: said.set())
    job = trainer.create(**QUICK)
    thread = threading.Thread(target=processes.run, args=(job.id,))
    thread.start()
    assert said.wait(20)
    processes.stop()
    thread.join(20)
    found = trainer.ledger.get(job.id)
    assert (found.state, found.attempt, found.error) == (JobState.QUEUED, 0, None)


@pytest.mark.slow
def test_one_training_runs_at_a_time(
    trainer: Trainer, processes: TrainingProcesses, running: tuple[str, threading.Thread]
) -> None:
    other = trainer.create(**QUICK)
    waiting = threading.Thread(target=processes.run, args=(other.id,))
    waiting.start()
    trainer.wait_for_phase(trainer.ledger.get(running[0]), "training", 20)
    assert trainer.ledger.get(other.id).state == JobState.QUEUED
    processes.stop()
    waiting.join(60)
    assert trainer.ledger.get(other.id).state == JobState.QUEUED


def test_stale_messages_start_no_process(
    trainer: Trainer, processes: TrainingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that waits long has several messages; each but the first costs one look at the database."""
    ended, held = trainer.create(**QUICK), trainer.create(**QUICK)
    trainer.ledger.request_cancel(ended.id)
    trainer.take(held)

    def start(*_: object, **__: object) -> None:
        pytest.fail("a process is started")

    monkeypatch.setattr("subprocess.Popen", start)
    for job_id in (ended.id, held.id, "job_nobody_knows"):
        processes.run(job_id)
    assert trainer.ledger.get(held.id).attempt == 1


def test_what_is_left_of_a_job_that_was_cancelled_between_its_attempts_goes(
    trainer: Trainer, processes: TrainingProcesses
) -> None:
    over, other = trainer.create(**QUICK), trainer.create(**QUICK)
    left, kept = (work_folder(trainer.settings.data) / job.id for job in (over, other))
    for folder in (left, kept):
        folder.mkdir(parents=True)
    trainer.ledger.request_cancel(over.id)
    processes.run(over.id)
    assert not left.exists()
    assert kept.exists()


@pytest.fixture
def in_hand(
    trainer: Trainer, processes: TrainingProcesses, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Job, threading.Thread]]:
    """A job that gives way, in the hand of a process that hears no signal but the last one."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    monkeypatch.setattr("workers.training.process.dying_with_parent", lambda _: [sys.executable, "-c", deaf])
    monkeypatch.setattr("workers.training.precedence.GRACE_S", 0.2)
    said = threading.Event()
    monkeypatch.setattr("workers.training.process.sys.stderr.write", lambda _: said.set())
    job = trainer.create("variants", **VARIANTS)
    thread = threading.Thread(target=processes.run, args=(job.id,))
    thread.start()
    assert said.wait(20)
    yield job, thread
    if processes._process:
        processes._process.kill()
    thread.join(20)


def test_a_job_that_nobody_waits_for_gives_way_to_one_that_waits(
    trainer: Trainer, in_hand: tuple[Job, threading.Thread]
) -> None:
    job, thread = in_hand
    trainer.create("variants", **VARIANTS)
    waiting = trainer.create(**QUICK)
    thread.join(20)
    assert not thread.is_alive()
    given_back = trainer.ledger.get(job.id)
    assert (given_back.state, given_back.attempt, given_back.error) == (JobState.QUEUED, 0, None)
    assert trainer.ledger.get(waiting.id).state == JobState.QUEUED


def test_it_is_not_begun_while_one_waits_and_is_sent_again_no_sooner_than_others(
    trainer: Trainer, processes: TrainingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, job = trainer.create(**QUICK), trainer.create("variants", **VARIANTS)
    let_pass(trainer.database, 61)

    def start(*_: object, **__: object) -> None:
        pytest.fail("a process is started")

    with monkeypatch.context() as watched:
        watched.setattr("subprocess.Popen", start)
        processes.run(job.id)
    given_back = trainer.ledger.get(job.id)
    assert (given_back.state, given_back.attempt) == (JobState.QUEUED, 0)
    assert [found.id for found in trainer.ledger.to_requeue(60)] == [waiting.id]
    let_pass(trainer.database, 61)
    assert job.id in [found.id for found in trainer.ledger.to_requeue(60)]


def test_the_trainer_that_waits_warm_is_left_to_a_job_that_somebody_waits_for(
    trainer: Trainer, processes: TrainingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = TrainingProcesses(trainer.ledger, "w", 30, work_folder(trainer.settings.data), spare=True)
    quits = "import sys; sys.stdin.read()"
    monkeypatch.setattr("workers.training.process.dying_with_parent", lambda _: [sys.executable, "-c", quits])
    warm.be_ready()
    spare = warm._spare
    assert spare is not None
    trainer.wait_until(lambda: spare.waiting is not None, "the trainer that waits")
    waiting = spare.waiting
    warm.run(trainer.create("variants", **VARIANTS).id)
    assert spare.waiting is waiting
    warm.run(trainer.create(**QUICK).id)
    assert spare.waiting is not waiting
    warm.stop()


def test_a_job_of_a_kind_that_a_later_release_added_is_given_back(
    trainer: Trainer, processes: TrainingProcesses
) -> None:
    job = trainer.create("distil")
    processes.run(job.id)
    assert (trainer.ledger.get(job.id).state, trainer.ledger.get(job.id).attempt) == (JobState.QUEUED, 0)


def test_exit_codes_are_explained() -> None:
    assert failure_of(ProcessKilled()).code == "trainer_killed"
    crashed = failure_of(ProcessCrashed(ending(-signal.SIGABRT)))
    assert crashed.code == "trainer_crashed"
    assert "(SIGABRT)" in crashed.detail
    assert "exit code 3" in failure_of(ProcessCrashed(ending(3))).detail


@pytest.mark.slow
def test_a_job_whose_training_dies_twice_is_not_tried_a_third_time(
    trainer: Trainer, processes: TrainingProcesses, running: tuple[str, threading.Thread]
) -> None:
    job_id, first = running
    os.kill(pid_of(processes), signal.SIGSEGV)
    first.join(20)
    second = threading.Thread(target=processes.run, args=(job_id,))
    second.start()
    while processes._process is None:
        time.sleep(0.01)
    os.kill(pid_of(processes), signal.SIGKILL)
    second.join(20)
    job = trainer.ledger.get(job_id)
    assert (job.state, job.attempt) == (JobState.FAILED, 2)
    assert job.error is not None
    assert job.error["code"] == "quarantined"
    assert "SIGSEGV" in job.error["detail"]
    assert "SIGKILL" in job.error["detail"]
