"""A trainer that waits warm: it is there when there is nothing else to do, and takes one job."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.trainer import QUICK, Trainer

from storage.job_ledger import JobState
from system.priority import TRAINER_NICENESS
from workers.training.cleanup import work_folder
from workers.training.process import TrainingProcesses
from workers.training.spare import SPARE_OPTION, SpareTrainer

SOON_S = 0.05


def waits() -> "subprocess.Popen[str]":
    """In place of a trainer a process that waits for its input, which costs no import of torch."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def spare() -> Iterator[SpareTrainer]:
    found = SpareTrainer(waits, idle_s=SOON_S)
    yield found
    found.close()
    until(lambda: found.waiting is None, "the spare to end")


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.01)


def one_that_waits(spare: SpareTrainer) -> int:
    until(lambda: spare.waiting is not None, "a spare")
    assert spare.waiting is not None
    return spare.waiting.pid


def test_it_is_there_when_it_is_wanted_and_takes_one_job(spare: SpareTrainer) -> None:
    assert spare.take() is None
    spare.want()
    pid = one_that_waits(spare)
    taken = spare.take()
    assert taken is not None
    assert taken.pid == pid
    # While its job runs there is no other one.
    assert spare.take() is None
    assert spare.waiting is None
    taken.communicate("a job")
    spare.want()
    assert one_that_waits(spare) != pid


def test_none_is_started_while_jobs_follow_each_other() -> None:
    started: list[int] = []

    def start() -> "subprocess.Popen[str]":
        process = waits()
        started.append(process.pid)
        return process

    spare = SpareTrainer(start, idle_s=0.5)
    for _ in range(20):
        spare.want()
        time.sleep(0.01)
        assert spare.take() is None
    assert started == []
    spare.close()


def test_one_that_died_is_not_handed_out_and_costs_nothing_else(
    spare: SpareTrainer, capfd: pytest.CaptureFixture[str]
) -> None:
    spare.want()
    pid = one_that_waits(spare)
    os.kill(pid, signal.SIGKILL)
    assert spare.waiting is not None
    spare.waiting.wait(10)
    assert spare.take() is None
    assert "trainer.spare_died" in capfd.readouterr().out
    spare.want()
    assert one_that_waits(spare) != pid


def test_one_that_cannot_be_started_is_done_without(capfd: pytest.CaptureFixture[str]) -> None:
    tried = threading.Event()

    def fail() -> "subprocess.Popen[str]":
        tried.set()
        raise OSError("Cannot allocate memory")

    spare = SpareTrainer(fail, idle_s=SOON_S)
    spare.want()
    assert tried.wait(10)
    assert spare.take() is None
    assert "trainer.spare_not_started" in capfd.readouterr().out


def test_it_ends_with_the_worker(spare: SpareTrainer) -> None:
    spare.want()
    process = psutil.Process(one_that_waits(spare))
    spare.close()
    process.wait(10)
    spare.want()
    time.sleep(4 * SOON_S)
    assert spare.waiting is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells children of their parent's end")
def test_it_ends_with_a_worker_that_is_killed(trainer: Trainer) -> None:
    """While it imports, and with nobody left who would close its input."""
    script = (
        "import sys, time\n"
        "from workers.training.process import start_trainer\n"
        "from workers.training.spare import SPARE_OPTION, SpareTrainer\n"
        "spare = SpareTrainer(lambda: start_trainer(SPARE_OPTION), idle_s=0.01)\n"
        "spare.want()\n"
        "while spare.waiting is None: time.sleep(0.01)\n"
        "print(spare.waiting.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script], env=trainer.process_environment(), stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout
    pid = next(int(line) for line in worker.stdout if line.strip().isdecimal())
    process = psutil.Process(pid)
    until(lambda: "runner" in " ".join(process.cmdline()), "the trainer to begin")
    worker.kill()
    worker.communicate()
    with suppress(psutil.NoSuchProcess):
        process.wait(10)
    assert not process.is_running()


@pytest.fixture
def processes(trainer: Trainer, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingProcesses]:
    trainer.use_digits(digits)
    for name, value in trainer.process_environment().items():
        monkeypatch.setenv(name, value)
    found = TrainingProcesses(trainer.ledger, "w", 30, work_folder(trainer.settings.data), spare=True)
    yield found
    found.stop()


def spare_of(processes: TrainingProcesses) -> psutil.Process:
    assert processes._spare is not None
    pid = one_that_waits(processes._spare)
    process = psutil.Process(pid)
    until(lambda: SPARE_OPTION in process.cmdline(), "the trainer to begin")
    until(lambda: has_come_to_rest(process), "everything to be imported", 120)
    return process


def has_come_to_rest(process: psutil.Process) -> bool:
    before = process.cpu_times().user
    time.sleep(0.5)
    return before > 1 and process.cpu_times().user == before


@pytest.mark.slow
def test_a_warm_trainer_teaches_the_same_bits_and_stands_back(
    trainer: Trainer, processes: TrainingProcesses
) -> None:
    cold, warm = trainer.create(**QUICK), trainer.create(**QUICK)
    processes.run(cold.id)
    process = spare_of(processes)
    assert process.nice() == TRAINER_NICENESS
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "1000"
    processes.run(warm.id)
    ended = [trainer.ledger.get(job.id) for job in (cold, warm)]
    assert [job.state for job in ended] == [JobState.SUCCEEDED] * 2
    results = [job.result or {} for job in ended]
    assert trainer.trained_sha256("digits:1") == trainer.trained_sha256("digits:2")
    assert results[1]["seconds"]["starting"] < results[0]["seconds"]["starting"]
    assert not process.is_running()


@pytest.mark.slow
def test_a_warm_trainer_that_is_killed_is_explained_as_any_other(
    trainer: Trainer, processes: TrainingProcesses
) -> None:
    processes.be_ready()
    process = spare_of(processes)
    job = trainer.create(**{**QUICK, "recipe": {**QUICK["recipe"], "epochs": 500}})  # type: ignore[dict-item]
    thread = threading.Thread(target=processes.run, args=(job.id,))
    thread.start()
    trainer.wait_for_phase(job, "training", 1)
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() != "1000"
    process.kill()
    thread.join(20)
    found = trainer.ledger.get(job.id)
    assert found.error is not None
    assert (found.state, found.attempt, found.error["code"]) == (JobState.QUEUED, 1, "trainer_killed")


@pytest.mark.slow
def test_a_stopping_worker_has_its_warm_trainer_give_the_job_back(
    trainer: Trainer, processes: TrainingProcesses
) -> None:
    processes.be_ready()
    spare_of(processes)
    job = trainer.create(**{**QUICK, "recipe": {**QUICK["recipe"], "epochs": 500}})  # type: ignore[dict-item]
    thread = threading.Thread(target=processes.run, args=(job.id,))
    thread.start()
    trainer.wait_for_phase(job, "training", 1)
    processes.stop()
    thread.join(20)
    found = trainer.ledger.get(job.id)
    assert (found.state, found.attempt, found.error) == (JobState.QUEUED, 0, None)
