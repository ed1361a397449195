"""A training that is killed or told to stop ends, in the end, with the very weights of an unbroken one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paused import paused_between_transactions
from support.trainer import QUICK, Trainer, end

from storage.job_ledger import JobState

# Long enough for a signal in the middle, short enough for a test.
EPOCHS = 6
REQUEST = {**QUICK, "recipe": {**QUICK["recipe"], "epochs": EPOCHS}}  # type: ignore[dict-item]
LEASE_S = "1.5"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Iterator[str]:
    """The sha256 of the weights that nobody interrupted."""
    world = Trainer(tmp_path_factory.mktemp("unbroken"))
    world.use_digits(digits)
    job = world.run_here(world.create(**REQUEST))
    assert job.state == JobState.SUCCEEDED, job.error
    yield world.trained_sha256()
    world.close()


def begun(trainer: Trainer, digits: Path, epoch: int) -> tuple[str, subprocess.Popen[bytes]]:
    """A job in the middle of its training."""
    trainer.use_digits(digits)
    job = trainer.create(**REQUEST)
    process = trainer.start(job, FOVEA_LEASE_S=LEASE_S)
    trainer.wait_for_phase(job, "training", epoch)
    return job.id, process


@pytest.mark.slow
def test_killed_in_its_middle_epoch_it_resumes_to_the_bit_and_leaves_nothing(
    trainer: Trainer, digits: Path, unbroken: str, tmp_path: Path
) -> None:
    job_id, process = begun(trainer, digits, EPOCHS // 2)
    assert end(process) == -signal.SIGKILL
    assert trainer.ledger.get(job_id).state == JobState.RUNNING
    trainer.wait_until(
        lambda: [job.id for job in trainer.ledger.to_requeue(1000)] == [job_id], "the lease to run out", 20
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ended = trainer.run(trainer.ledger.get(job_id), TMPDIR=str(temporary))
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert list(temporary.iterdir()) == []
    assert trainer.trained_sha256() == unbroken
    epochs = [
        event.data["epoch"]
        for event in trainer.ledger.events(job_id)
        if event.data.get("attempt") == 2 and event.data.get("phase") == "training" and "epoch" in event.data
    ]
    assert min(epochs) >= EPOCHS // 2


@pytest.mark.slow
def test_told_to_stop_it_gives_the_job_back_and_resumes_to_the_bit(
    trainer: Trainer, digits: Path, unbroken: str
) -> None:
    job_id, process = begun(trainer, digits, 2)
    assert end(process, signal.SIGTERM) == 0
    given_back = trainer.ledger.get(job_id)
    assert (given_back.state, given_back.attempt) == (JobState.QUEUED, 0)
    # Another machine: it has the blobs and the database, and nothing of this one's disk.
    shutil.rmtree(trainer.settings.data / "work")
    ended = trainer.run(given_back)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert trainer.trained_sha256() == unbroken
    assert "checkpoint.fetched" in trainer.log()


@pytest.mark.slow
def test_cancelled_it_keeps_its_best_if_asked(trainer: Trainer, digits: Path) -> None:
    job_id, process = begun(trainer, digits, 2)
    trainer.ledger.request_cancel(job_id, on_cancel="keep_best")
    assert process.wait(60) == 0
    ended = trainer.ledger.get(job_id)
    assert ended.state == JobState.CANCELLED
    assert ended.result is not None
    assert ended.result["stopped"] == "cancelled"
    version = trainer.registry.resolve("digits")
    assert 1 <= len(version.metrics["history"]) < EPOCHS


@pytest.mark.slow
def test_cancelled_it_is_gone_within_seconds_and_leaves_nothing(trainer: Trainer, digits: Path) -> None:
    job_id, process = begun(trainer, digits, 1)
    trainer.ledger.request_cancel(job_id)
    trainer.wait_until(lambda: trainer.ledger.get(job_id).state == JobState.CANCELLED, "the cancellation", 5)
    assert process.wait(30) == 0
    assert not trainer.registry.list_models(10).items
    assert not (trainer.settings.data / "work" / job_id).exists()
    assert not trainer.blobs.list(f"jobs/{job_id}")


@pytest.mark.slow
def test_a_zombie_writes_nothing(trainer: Trainer, digits: Path, unbroken: str) -> None:
    """Stopped while it trains, overtaken by another attempt, and woken: its work is void."""
    job_id, process = begun(trainer, digits, 2)
    with paused_between_transactions(process, trainer.settings.data / "fovea.db"):
        trainer.wait_until(lambda: bool(trainer.ledger.to_requeue(1000)), "the lease to run out", 20)
        ended = trainer.run(trainer.ledger.get(job_id))
    assert process.wait(60) == 0
    assert ended.state == JobState.SUCCEEDED
    assert trainer.trained_sha256() == unbroken
    assert trainer.ledger.get(job_id).result == ended.result
    assert len(trainer.registry.list_versions("digits", 10).items) == 1
    assert "job.lease_lost" in trainer.log()


@pytest.mark.slow
def test_orphaned_it_stops_by_itself(trainer: Trainer, digits: Path) -> None:
    """The process that started it is killed; the kernel tells it, and it gives its job back."""
    trainer.use_digits(digits)
    job = trainer.create(**REQUEST)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from storage.database import open_database\n"
        "from storage.job_ledger import JobLedger\n"
        "from workers.training.process import TrainingProcesses\n"
        f"ledger = JobLedger(open_database({trainer.settings.database!r}))\n"
        f"TrainingProcesses(ledger, 'w', 30, Path('work')).run({job.id!r})\n"
    )
    with (trainer.folder / "runner.log").open("ab") as log:
        parent = subprocess.Popen(
            [sys.executable, "-c", script], env=trainer.process_environment(), stdout=log, stderr=log
        )
    trainer.wait_for_phase(job, "training", 1)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(10)
    trainer.wait_until(lambda: trainer.ledger.get(job.id).state == JobState.QUEUED, "the job to be given back", 20)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_variants_that_are_ended_in_the_middle_leave_the_version_as_it_was_and_are_tried_again(
    trainer: Trainer, digits: Path, how: signal.Signals
) -> None:
    trainer.use_digits(digits)
    taught = trainer.run_here(trainer.create(**QUICK)).result
    assert taught is not None
    before = trainer.registry.resolve("digits")
    process = trainer.start(trainer.ledger.get(taught["variants_job"]), FOVEA_LEASE_S=LEASE_S)
    trainer.wait_for_phase(trainer.ledger.get(taught["variants_job"]), "trying")
    end(process, how)
    assert trainer.registry.resolve("digits") == before
    job = trainer.ledger.get(taught["variants_job"])
    if how is signal.SIGKILL:
        assert job.state == JobState.RUNNING
        trainer.wait_until(lambda: bool(trainer.ledger.to_requeue(1000)), "the lease to run out", 20)
    else:
        assert (job.state, job.attempt) == (JobState.QUEUED, 0)
    ended = trainer.run(trainer.ledger.get(job.id))
    assert ended.state == JobState.SUCCEEDED, ended.error
    now = trainer.registry.resolve("digits")
    assert "int8" in now.manifest["variants"]
    assert {key.split("/")[3] for key in trainer.blobs.list(f"models/digits/{job.id}")} == {
        now.artifact.rpartition("/")[2]
    }
    assert not (trainer.settings.data / "work" / job.id).exists()
