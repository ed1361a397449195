"""The training worker's process on a real queue: a message becomes a version, and SIGTERM gives the job back."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.redis import RedisServer
from support.trainer import QUICK, Trainer, end

from models.artifact import verify
from storage.job_ledger import Job, JobState
from workers.celery_app import make_celery
from workers.contract.messages import RunJob, encode
from workers.contract.queues import TaskName

pytestmark = pytest.mark.slow


@pytest.fixture
def worker(trainer: Trainer, digits: Path, redis_server: RedisServer) -> Iterator[subprocess.Popen[bytes]]:
    trainer.use_digits(digits)
    trainer.environment["FOVEA_BROKER_URL"] = redis_server.url
    with (trainer.folder / "runner.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.training.main"],
            env=trainer.process_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    yield process
    if process.poll() is None:
        end(process)


def send(redis_server: RedisServer, job: Job) -> None:
    app = make_celery(redis_server.url)
    app.send_task(TaskName.RUN_TRAINING_JOB.value, args=[encode(RunJob(job.id))])
    app.close()


def test_a_message_becomes_a_version(
    trainer: Trainer, worker: subprocess.Popen[bytes], redis_server: RedisServer
) -> None:
    job = trainer.create(**QUICK)
    send(redis_server, job)
    trainer.wait_until(lambda: trainer.ledger.get(job.id).state.is_terminal, "the job to end", 200)
    ended = trainer.ledger.get(job.id)
    assert ended.state == JobState.SUCCEEDED, trainer.log()
    assert (ended.worker or "").startswith("training@")
    assert trainer.registry.resolve("digits").job_id == job.id
    assert end(worker, signal.SIGTERM) == 0


def test_the_variants_of_what_was_taught_are_tried_at_once_afterwards_without_a_gateway(
    trainer: Trainer, worker: subprocess.Popen[bytes], redis_server: RedisServer
) -> None:
    taught = trainer.create(**QUICK)
    send(redis_server, taught)
    trainer.wait_until(lambda: trainer.ledger.get(taught.id).state.is_terminal, "the fine-tune to end", 200)
    result = trainer.ledger.get(taught.id).result
    assert result is not None, trainer.log()
    left = result["variants_job"]
    trainer.wait_until(lambda: trainer.ledger.get(left).state.is_terminal, "the variants to be tried", 200)
    ended = trainer.ledger.get(left)
    assert ended.result is not None, ended.error
    version = trainer.registry.resolve("digits")
    assert (version.job_id, version.artifact.split("/")[2]) == (taught.id, left)
    report = version.manifest["variants"]["int8"]
    assert report == ended.result["variants"]["int8"]
    assert (report["images"], report["passed"]) == (ended.result["judged_on"], report["reason"] is None)
    folder = trainer.blobs.folder_of(version.artifact)
    assert folder is not None
    assert ("model.int8.onnx" in verify(folder).files) == report["passed"]
    assert end(worker, signal.SIGTERM) == 0


def test_sigterm_of_the_worker_gives_the_job_back_with_a_checkpoint(
    trainer: Trainer, worker: subprocess.Popen[bytes], redis_server: RedisServer
) -> None:
    job = trainer.create(**{**QUICK, "recipe": {**QUICK["recipe"], "epochs": 500}})  # type: ignore[dict-item]
    send(redis_server, job)
    trainer.wait_for_phase(job, "training", 2)
    assert end(worker, signal.SIGTERM) == 0, trainer.log()
    given_back = trainer.ledger.get(job.id)
    assert (given_back.state, given_back.attempt, given_back.error) == (JobState.QUEUED, 0, None)
    assert trainer.blobs.list(f"jobs/{job.id}/checkpoints")


def test_while_it_has_nothing_to_do_a_trainer_waits_which_ends_with_it(
    trainer: Trainer, redis_server: RedisServer
) -> None:
    environment = trainer.process_environment(
        {"FOVEA_BROKER_URL": redis_server.url, "FOVEA_SPARE_TRAINER": "true"}
    )
    with (trainer.folder / "runner.log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "workers.training.main"], env=environment, stdout=log, stderr=log
        )
    trainer.wait_until(lambda: "trainer.spare_started" in trainer.log(), "a trainer that waits")
    (spare,) = psutil.Process(worker.pid).children()
    assert end(worker, signal.SIGTERM) == 0, trainer.log()
    psutil.wait_procs([spare], timeout=10)
    assert not spare.is_running()


def test_a_second_message_for_a_running_job_does_nothing(
    trainer: Trainer, worker: subprocess.Popen[bytes], redis_server: RedisServer
) -> None:
    job = trainer.create(**QUICK)
    assert trainer.ledger.take(job.id, "another worker", 60) is not None
    send(redis_server, job)
    trainer.wait_until(lambda: "job.not_to_be_run" in trainer.log(), "the message to be read")
    held = trainer.ledger.get(job.id)
    assert (held.state, held.worker, held.attempt) == (JobState.RUNNING, "another worker", 1)
