"""The inference worker's process on a real Redis: two of them, one paused; and what its exit code says."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from celery import Celery
from PIL import Image
from redis import Redis
from support.paused import paused_between_transactions
from support.redis import RedisServer
from support.world import World, archive_of

from models.dataset.folder import DatasetFolder
from storage.datasets import DatasetState
from storage.job_ledger import Job, JobState
from workers.celery_app import make_celery
from workers.contract.messages import RunJob, encode
from workers.contract.queues import HEARTBEAT_PREFIX, TaskName

LEASE_S = 1.5


class Worker:
    """A process with a log of its own, in the world's folder."""

    def __init__(self, world: World, redis: RedisServer, name: str) -> None:
        self.log_file = world.folder / f"{name}.log"
        environment = {
            **os.environ,
            "FOVEA_DATA": str(world.folder),
            "FOVEA_BROKER_URL": redis.url,
            "FOVEA_DEVICE": "cpu",
            "FOVEA_LEASE_S": str(LEASE_S),
            "FOVEA_LOG_FORMAT": "json",
        }
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.inference.main"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


StartWorker = Callable[[str], Worker]


@pytest.fixture
def start_worker(world: World, redis_server: RedisServer) -> Iterator[StartWorker]:
    workers: list[Worker] = []

    def start(name: str) -> Worker:
        worker = Worker(world, redis_server, name)
        workers.append(worker)
        # A worker is named ROLE@HOST:PID:RANDOM.
        beats = f"{HEARTBEAT_PREFIX}*:{worker.process.pid}:*"
        with Redis.from_url(redis_server.url) as redis:
            until(lambda: any(redis.scan_iter(beats)), f"{name} to live", worker)
        return worker

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait(10)


@pytest.fixture
def celery(redis_server: RedisServer) -> Iterator[Celery]:
    app = make_celery(redis_server.url)
    yield app
    app.close()


def until(holds: Callable[[], bool], what: str, *workers: Worker, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            logs = "\n".join(worker.log[-3000:] for worker in workers)
            raise TimeoutError(f"waited {timeout_s} s for {what}\n{logs}")
        time.sleep(0.02)


def send(celery: Celery, job: Job) -> None:
    celery.send_task(TaskName.RUN_BULK_JOB.value, (encode(RunJob(job.id)),))


def at_work(world: World) -> bool:
    """Whether an ingest has begun to read its archive."""
    return any((world.folder / "cache" / "ingest").glob("*/content/archive"))


def photographs(count: int) -> bytes:
    """Photographs large enough that their check takes seconds."""
    files = {}
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((1600, 1200), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        files[f"{'ab'[number % 2]}/{number}.jpg"] = buffer.getvalue()
    return archive_of(files)


def test_a_worker_paused_in_the_middle_of_an_ingest_changes_nothing_that_its_heir_has_done(
    world: World, celery: Celery, start_worker: StartWorker
) -> None:
    zombie = start_worker("zombie")
    job, dataset = world.upload(photographs(120))
    send(celery, job)
    until(lambda: at_work(world), "the check to begin", zombie)
    with paused_between_transactions(zombie.process, world.folder / "fovea.db"):
        until(lambda: bool(world.ledger.to_requeue(1000)), "the lease to end", zombie)

        heir = start_worker("heir")
        send(celery, job)
        until(lambda: "job.ended" in heir.log, "the heir to end the job", heir)
        ended, ready = world.ledger.get(job.id), world.datasets.get(dataset.id)
        assert ended.state == JobState.SUCCEEDED
        files = set(world.blobs.list())
        assert ready.state == DatasetState.READY
    until(lambda: "job.lease_lost" in zombie.log, "the zombie to notice", zombie)

    assert zombie.end(signal.SIGTERM) == 0
    assert world.ledger.get(job.id) == ended
    assert world.datasets.get(dataset.id) == ready
    assert set(world.blobs.list()) == files
    assert not world.blobs.list("jobs")
    folder = world.blobs.folder_of(ready.prefix)
    assert folder is not None
    assert len(DatasetFolder.open(folder).samples) == 120
    assert "Traceback" not in zombie.log
    assert heir.end(signal.SIGTERM) == 0
    assert not list((world.folder / "cache" / "ingest").iterdir())


def test_what_a_killed_worker_left_on_the_disk_goes_with_the_next_ingest(
    world: World, celery: Celery, start_worker: StartWorker
) -> None:
    killed = start_worker("killed")
    job, dataset = world.upload(photographs(60))
    send(celery, job)
    until(lambda: at_work(world), "the check to begin", killed)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    assert list((world.folder / "cache" / "ingest").iterdir())
    until(lambda: bool(world.ledger.to_requeue(1000)), "the lease to end")

    heir = start_worker("heir")
    send(celery, job)
    until(lambda: "job.ended" in heir.log, "the heir to end the job", heir)
    assert world.datasets.get(dataset.id).state == DatasetState.READY
    assert not list((world.folder / "cache" / "ingest").iterdir())


def test_sigterm_gives_a_running_job_back_and_ends_with_0(
    world: World, celery: Celery, start_worker: StartWorker
) -> None:
    worker = start_worker("worker")
    job, dataset = world.upload(photographs(120))
    send(celery, job)
    until(lambda: at_work(world), "the check to begin", worker)
    assert worker.end(signal.SIGTERM) == 0, worker.log
    given_back = world.ledger.get(job.id)
    assert (given_back.state, given_back.attempt, given_back.error) == (JobState.QUEUED, 0, None)
    assert world.datasets.get(dataset.id).state == DatasetState.CHECKING
    assert world.blobs.exists(f"jobs/{job.id}/upload")


def test_a_redis_that_refuses_commands_ends_the_worker_with_a_reason_and_not_with_0(
    redis_server: RedisServer, celery: Celery, world: World, start_worker: StartWorker
) -> None:
    """As one whose disk is full does: it answers, and refuses every write. A restart policy must see a failure."""
    worker = start_worker("worker")
    with Redis.from_url(redis_server.url) as redis:
        redis.config_set("min-replicas-to-write", 1)
    code = worker.process.wait(60)
    assert code not in (0, 2), worker.log
    assert "worker.ended" in worker.log
    assert "NOREPLICAS" in worker.log


def test_a_worker_whose_words_nobody_reads_any_more_still_ends_at_a_signal(
    world: World, redis_server: RedisServer
) -> None:
    environment = {
        **os.environ,
        "FOVEA_DATA": str(world.folder),
        "FOVEA_BROKER_URL": redis_server.url,
        "FOVEA_DEVICE": "cpu",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.inference.main"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout
        # As when `fovea up` is killed: the kernel's SIGTERM finds a pipe without a reader.
        with process.stdout as words:
            assert any("ready." in line for line in words)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
