"""The inference worker and its bulk process on a real Redis: killed, paused, ended; what the exit code says."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
from celery import Celery
from PIL import Image
from redis import Redis
from support.colours import make_colour_artifact, picture
from support.paused import paused_between_transactions
from support.redis import RedisServer
from support.world import World, archive_of

from models.dataset.folder import DatasetFolder
from storage.datasets import DatasetState
from storage.job_ledger import Job, JobState
from workers.celery_app import KEY_PREFIX, make_celery
from workers.contract.messages import ClassifyBatch, ClassifyReply, RunJob, decode, encode
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

    @property
    def bulk(self) -> psutil.Process:
        """The process that does its jobs."""
        found = [
            child
            for child in psutil.Process(self.process.pid).children()
            if "workers.inference.bulk" in child.cmdline()[:4]
        ]
        assert len(found) == 1, found
        return found[0]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)

    def kill_all(self) -> None:
        """As the death of its container does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


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
        until(lambda: '"bulk-' in worker.log, f"the bulk process of {name} to be ready", worker)
        return worker

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill_all()


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


@pytest.mark.slow
def test_a_worker_paused_in_the_middle_of_an_ingest_changes_nothing_that_its_heir_has_done(
    world: World, celery: Celery, start_worker: StartWorker
) -> None:
    zombie = start_worker("zombie")
    job, dataset = world.upload(photographs(120))
    send(celery, job)
    until(lambda: at_work(world), "the check to begin", zombie)
    with paused_between_transactions(zombie.bulk, world.folder / "fovea.db"):
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


@pytest.mark.slow
def test_what_a_killed_worker_left_on_the_disk_goes_with_the_next_ingest(
    world: World, celery: Celery, start_worker: StartWorker
) -> None:
    killed = start_worker("killed")
    job, dataset = world.upload(photographs(60))
    send(celery, job)
    until(lambda: at_work(world), "the check to begin", killed)
    killed.kill_all()
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


@pytest.mark.slow
def test_what_a_worker_that_is_told_to_end_holds_is_done_once_and_the_rest_by_another_at_once(
    world: World, celery: Celery, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    leaving, staying = start_worker("leaving"), start_worker("staying")
    make_colour_artifact(world.folder / "colours")
    world.blobs.put_folder("models/colours/1/", world.folder / "colours")
    # Enough that it is not done when some of the batches are, which on a busy machine takes long.
    job, _ = world.upload(photographs(240))
    send(celery, job)
    until(lambda: "job.taken" in leaving.log + staying.log, "the job to begin", leaving, staying)
    if "job.taken" in staying.log:
        leaving, staying = staying, leaving
    with Redis.from_url(redis_server.url) as transit:
        pictures = [picture("red", size=(1600, 1200), form="JPEG", noise=1 + number) for number in range(4)]
        names = [f"b{number}" for number in range(60)]
        for name in names:
            images = [f"{name}:{number}" for number in range(len(pictures))]
            transit.mset(dict(zip(images, pictures, strict=True)))
            now = time.time()
            batch = ClassifyBatch(
                name, "reply", "colours", 1, "models/colours/1/", tuple(images), ("r",), 1, now + 300, now
            )
            celery.send_task(TaskName.CLASSIFY_BATCH.value, (encode(batch),))
        until(lambda: transit.llen("reply") > 4, "some batches to be answered", leaving, staying)
        leaving.process.send_signal(signal.SIGTERM)
        mine = f"{HEARTBEAT_PREFIX}*:{leaving.process.pid}:*"

        def slots() -> list[int]:
            return [json.loads(said)["slots"] for said in transit.mget(list(transit.scan_iter(mine))) if said]

        until(lambda: not any(slots()), "it to say that it takes no more", leaving, timeout_s=5)
        assert leaving.process.wait(30) == 0

        until(lambda: "job.ended" in staying.log, "the other to do the job", staying)
        until(lambda: transit.llen("reply") >= len(names), "every batch to be answered", staying)
        replies = [decode(ClassifyReply, reply) for reply in transit.lrange("reply", 0, -1)]
        assert [reply.error for reply in replies] == [None] * len(names)
        assert sorted(reply.batch for reply in replies) == sorted(names)
        assert {reply.worker.split(":")[1] for reply in replies} == {
            str(worker.process.pid) for worker in (leaving, staying)
        }
        until(lambda: not transit.hlen(f"{KEY_PREFIX}unacked.inference"), "all to be acknowledged", staying)
    assert "Traceback" not in leaving.log


def test_a_worker_is_silent_while_redis_refuses_commands_and_goes_on_afterwards(
    redis_server: RedisServer, celery: Celery, start_worker: StartWorker
) -> None:
    """As one whose disk is full does: it answers, and refuses every write."""
    worker = start_worker("worker")
    with Redis.from_url(redis_server.url) as redis:
        redis.config_set("min-replicas-to-write", 1)
        until(lambda: "broker.lost" in worker.log, "the worker to notice", worker)
        assert "NOREPLICAS" in worker.log
        until(lambda: not list(redis.scan_iter(f"{HEARTBEAT_PREFIX}*")), "the worker to be silent", worker)
        redis.config_set("min-replicas-to-write", 0)
        batch = ClassifyBatch("b1", "replies", "m", 1, "models/none", (), (), 1, time.time() + 60, time.time())
        celery.send_task(TaskName.CLASSIFY_BATCH.value, (encode(batch),))
        assert redis.blpop(["replies"], timeout=30)
        until(lambda: bool(list(redis.scan_iter(f"{HEARTBEAT_PREFIX}*"))), "the worker to speak", worker)
    assert "broker.back" in worker.log


def test_an_image_is_answered_while_as_many_jobs_run_as_the_worker_takes(
    world: World, redis_server: RedisServer, celery: Celery, start_worker: StartWorker
) -> None:
    worker = start_worker("worker")
    jobs = [world.upload(photographs(count))[0] for count in (100, 101, 102)]
    for job in jobs:
        send(celery, job)
    until(lambda: worker.log.count("job.taken") == 2, "two checks to begin", worker)
    batch = ClassifyBatch("b1", "replies", "m", 1, "models/none", (), (), 1, time.time() + 60, time.time())
    celery.send_task(TaskName.CLASSIFY_BATCH.value, (encode(batch),))
    with Redis.from_url(redis_server.url) as redis:
        # The model is none; what counts is that somebody says so.
        _, reply = redis.blpop(["replies"], timeout=30) or (b"", b"")
    states = [world.ledger.get(job.id).state for job in jobs]
    assert json.loads(reply)["error"]
    assert states == [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED]
    assert worker.bulk.nice() > psutil.Process(worker.process.pid).nice()


def test_a_bulk_process_that_dies_is_started_again_and_the_worker_lives_on(
    world: World, celery: Celery, start_worker: StartWorker
) -> None:
    worker = start_worker("worker")
    first = worker.bulk
    first.kill()
    until(lambda: worker.log.count('"bulk.starting"') == 2, "the next bulk process", worker)
    assert '"exit_code": -9' in worker.log
    job, dataset = world.upload(photographs(2))
    send(celery, job)
    until(lambda: "job.ended" in worker.log, "the job", worker)
    assert world.datasets.get(dataset.id).state == DatasetState.READY
    second = worker.bulk
    assert second.pid != first.pid
    assert worker.end(signal.SIGTERM) == 0
    assert not second.is_running()


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
