"""A fine-tune on two devices through the real trainer: it learns the same, and whatever happens leaves no rank."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ranks import lives, rank_processes
from support.trainer import QUICK, Trainer, end

from storage.job_ledger import JobState

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the ranks in /proc"),
]

EPOCHS = 6
REQUEST: dict[str, Any] = {**QUICK, "recipe": {**QUICK["recipe"], "epochs": EPOCHS}}  # type: ignore[dict-item]
LONG: dict[str, Any] = {**QUICK, "recipe": {**QUICK["recipe"], "epochs": 500}}  # type: ignore[dict-item]
TWO = {"FOVEA_TRAINING_DEVICES": "2", "FOVEA_LEASE_S": "5"}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Iterator[Trainer]:
    """One whose two ranks nobody interrupted."""
    world = Trainer(tmp_path_factory.mktemp("unbroken"), environment=TWO)
    world.use_digits(digits)
    job = world.run(world.create(**REQUEST))
    assert job.state == JobState.SUCCEEDED, job.error
    yield world
    world.close()


@pytest.fixture
def two(tmp_path: Path, digits: Path) -> Iterator[Trainer]:
    world = Trainer(tmp_path / "data", environment=TWO)
    world.use_digits(digits)
    yield world
    world.close()


Begun = tuple[str, subprocess.Popen[bytes], dict[int, int]]


@pytest.fixture
def begin(two: Trainer) -> Iterator[Callable[..., Begun]]:
    """Has a job come to the middle of its training; its id, its trainer, its ranks' process ids."""
    started: list[subprocess.Popen[bytes]] = []

    def begun(request: dict[str, Any], epoch: int, **environment: str) -> Begun:
        job = two.create(**request)
        process = two.start(job, **environment)
        started.append(process)
        two.wait_until(lambda: two.progress(job).get("epoch", 0) >= epoch, f"epoch {epoch}", 240)
        ranks = rank_processes(process.pid)
        assert sorted(ranks) == [0, 1]
        return job.id, process, ranks

    yield begun
    for process in started:
        # Its ranks go with it.
        process.kill()
        process.wait(60)


def none_lives(trainer: Trainer, ranks: dict[int, int]) -> bool:
    trainer.wait_until(lambda: not any(map(lives, ranks.values())), "the ranks to be gone", 10)
    return True


def test_it_learns_what_one_process_learns(unbroken: Trainer, trainer: Trainer, digits: Path) -> None:
    trainer.use_digits(digits)
    alone = trainer.run_here(trainer.create(**REQUEST))
    assert alone.state == JobState.SUCCEEDED, alone.error
    expected, found = (
        world.registry.resolve("digits").manifest["metrics"]["history"] for world in (trainer, unbroken)
    )
    for name in ("loss", "validation_loss", "accuracy", "validation_accuracy"):
        assert [line[name] for line in found] == pytest.approx([line[name] for line in expected], rel=1e-3)
    assert unbroken.registry.resolve("digits").manifest["recipe"]["devices"] == 2
    assert "training on 2 devices" in unbroken.log()
    assert not list((unbroken.settings.data / "work").glob("*/ranks-*"))


def test_a_killed_rank_ends_the_attempt_and_the_next_resumes_to_the_bit(
    two: Trainer, begin: Callable[..., Begun], unbroken: Trainer
) -> None:
    job_id, process, ranks = begin(REQUEST, EPOCHS // 2)
    os.kill(ranks[1], signal.SIGKILL)
    assert process.wait(30) == 0
    assert none_lives(two, ranks)
    job = two.ledger.get(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 1)
    assert job.error is not None
    assert job.error["code"] == "trainer_killed"
    assert job.error["detail"].startswith("Rank 1 of the 2 that trained together was killed (SIGKILL)")
    ended = two.run(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert two.trained_sha256() == unbroken.trained_sha256()
    epochs = [
        event.data["epoch"]
        for event in two.ledger.events(job_id)
        if event.data.get("attempt") == 2 and event.data.get("phase") == "training" and "epoch" in event.data
    ]
    assert min(epochs) >= EPOCHS // 2


def test_a_rank_that_dies_in_two_attempts_is_not_tried_again(two: Trainer, begin: Callable[..., Begun]) -> None:
    job_id, process, ranks = begin(LONG, 1)
    os.kill(ranks[0], signal.SIGSEGV)
    assert process.wait(30) == 0
    error = two.ledger.get(job_id).error
    assert error is not None
    assert (error["code"], "Rank 0 of the 2" in error["detail"], "SIGSEGV" in error["detail"]) == (
        "trainer_crashed",
        True,
        True,
    )
    again = two.start(two.ledger.get(job_id))
    two.wait_until(lambda: 1 in rank_processes(again.pid), "the ranks")
    os.kill(rank_processes(again.pid)[1], signal.SIGKILL)
    assert again.wait(60) == 0
    job = two.ledger.get(job_id)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "quarantined"


def test_told_to_stop_they_give_the_job_back_and_resume_to_the_bit(
    two: Trainer, begin: Callable[..., Begun], unbroken: Trainer
) -> None:
    job_id, process, ranks = begin(REQUEST, 2)
    assert end(process, signal.SIGTERM) == 0
    assert none_lives(two, ranks)
    given_back = two.ledger.get(job_id)
    assert (given_back.state, given_back.attempt) == (JobState.QUEUED, 0)
    # Another machine: it has the blobs and the database, and nothing of this one's disk.
    shutil.rmtree(two.settings.data / "work")
    ended = two.run(given_back)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert two.trained_sha256() == unbroken.trained_sha256()
    assert "checkpoint.fetched" in two.log()


def test_cancelled_both_are_gone_within_seconds_and_leave_nothing(
    two: Trainer, begin: Callable[..., Begun]
) -> None:
    job_id, process, ranks = begin(LONG, 1)
    two.ledger.request_cancel(job_id)
    two.wait_until(lambda: two.ledger.get(job_id).state == JobState.CANCELLED, "the cancellation", 5)
    assert process.wait(30) == 0
    assert none_lives(two, ranks)
    assert not (two.settings.data / "work" / job_id).exists()


def test_a_killed_trainer_takes_its_ranks_with_it(two: Trainer, begin: Callable[..., Begun]) -> None:
    _, process, ranks = begin(LONG, 1)
    assert end(process) == -signal.SIGKILL
    assert none_lives(two, ranks)


def test_a_lost_lease_ends_both(two: Trainer, begin: Callable[..., Begun]) -> None:
    """Its worker was silent for longer than its lease, and another has taken the job."""
    job_id, process, ranks = begin(LONG, 1)
    process.send_signal(signal.SIGSTOP)
    two.wait_until(lambda: bool(two.ledger.to_requeue(1000)), "the lease to run out", 20)
    two.take(two.ledger.get(job_id))
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0
    assert none_lives(two, ranks)
    assert "job.lease_lost" in two.log()


def test_a_rank_that_stands_still_ends_the_attempt(two: Trainer, begin: Callable[..., Begun]) -> None:
    job_id, process, ranks = begin(LONG, 1, FOVEA_TRAINING_SILENCE_S="20")
    os.kill(ranks[1], signal.SIGSTOP)
    assert process.wait(120) == 0
    assert none_lives(two, ranks)
    error = two.ledger.get(job_id).error
    assert error is not None
    assert error["code"] == "trainer_crashed"
    assert error["detail"].startswith(
        "Rank 1 of the 2 that trained together does not answer, and none came further"
    )
    # Where the other one was.
    assert "Current thread" in two.log()
