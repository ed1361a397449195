"""Celery's side of inference on a real queue: a message in, one reply out, whatever fails in between."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis
from support.colours import make_colour_artifact, picture
from support.redis import RedisServer

from models.predictor import Predictor
from workers.celery_app import make_celery
from workers.contract.messages import ClassifyBatch, ClassifyReply, RunJob, decode, encode
from workers.contract.queues import TaskName
from workers.inference.engine import Engine
from workers.inference.job_runner import InferenceJobs
from workers.inference.loaded import LoadedModels
from workers.inference.quarantine import Quarantine
from workers.inference.tasks import answer, register_batches, register_jobs, send_reply
from workers.transit import Transit


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    make_colour_artifact(tmp_path / "colours")
    models = LoadedModels(lambda name, _: Predictor(tmp_path / name), memory_budget=2**30)
    made = Engine(models, concurrency=1, max_pixels=10_000)
    yield made
    made.close()


@pytest.fixture
def transit(redis_server: RedisServer) -> Iterator[Redis]:
    client = Redis.from_url(redis_server.url)
    yield client
    client.close()


def batch(*images: str, artifact: str = "colours", late_s: float = -30) -> ClassifyBatch:
    now = time.time()
    return ClassifyBatch("b1", "reply", "colours", 1, artifact, images, ("r1",), 2, now - late_s, now)


def replies(transit: Redis) -> list[ClassifyReply]:
    return [decode(ClassifyReply, json.loads(reply)) for reply in transit.lrange("reply", 0, -1)]  # type: ignore[union-attr]


@pytest.fixture
def consuming(redis_server: RedisServer, transit: Redis, engine: Engine) -> Iterator[Celery]:
    """A real consumer in a thread of this process."""
    from celery.contrib.testing.worker import start_worker

    app = make_celery(redis_server.url, role="inference")
    register_batches(app, engine, Quarantine(Transit({"one": transit}), "w1"), "w1")
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False, loglevel="WARNING"):
        yield app


def test_images_are_answered_in_their_order_and_freed(transit: Redis, engine: Engine) -> None:
    transit.mset({"i1": picture("blue"), "i2": b"no image", "i3": picture("red")})
    asked = batch("i1", "i2", "i3")
    reply = answer(engine, Quarantine(Transit({"one": transit}), "w1"), asked, "w1")
    send_reply(Quarantine(Transit({"one": transit}), "w1"), asked, reply)
    (received,) = replies(transit)
    assert [outcome.classes[0].label if outcome.classes else outcome.error for outcome in received.outcomes] == [
        "blue", "image_unreadable", "red",
    ]  # fmt: skip
    assert (received.batch, received.worker, received.error) == ("b1", "w1", None)
    assert not transit.exists("i1", "i2", "i3")
    assert transit.ttl("reply") > 0  # type: ignore[operator]


def test_an_image_whose_bytes_are_gone_is_lost_and_its_neighbours_are_not(transit: Redis, engine: Engine) -> None:
    transit.set("i2", picture("green"))
    outcomes = answer(engine, Quarantine(Transit({"one": transit}), "w1"), batch("i1", "i2"), "w1").outcomes
    assert [outcome.error for outcome in outcomes] == ["image_lost", None]


def test_images_of_a_server_that_a_worker_with_one_was_not_told_of_are_not_lost(
    transit: Redis, engine: Engine
) -> None:
    """The gateway has them, and sends them by one that every worker knows. With one server any name is its own."""
    quarantine = Quarantine(Transit({"one": transit}), "w1")
    asked = replace(batch("i1", "i2"), server="another")
    reply = answer(engine, quarantine, asked, "w1")
    assert (reply.error, reply.outcomes) == ("broker_unavailable", ())
    transit.mset({"i1": picture("blue"), "i2": picture("red")})
    outcomes = answer(engine, quarantine, asked, "w1").outcomes
    assert [outcome.classes[0].label for outcome in outcomes] == ["blue", "red"]
    # One that is gone from the server that is meant is gone.
    assert answer(engine, quarantine, replace(batch("i3"), server="one"), "w1").outcomes[0].error == "image_lost"


def test_a_batch_without_images_loads_the_model(transit: Redis, engine: Engine) -> None:
    assert answer(engine, Quarantine(Transit({"one": transit}), "w1"), batch(), "w1").error is None
    assert engine.models.artifacts() == ("colours",)


def test_a_model_that_cannot_be_loaded_is_told_by_code_and_without_a_path(
    transit: Redis, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "colours" / "model.onnx").write_bytes(b"damaged")
    transit.set("i1", picture("red"))
    reply = answer(engine, Quarantine(Transit({"one": transit}), "w1"), batch("i1"), "w1")
    assert reply.error == "artifact_unusable"
    assert str(tmp_path) not in (reply.detail or "")


def test_a_worker_that_cannot_reach_redis_says_nothing_against_the_model(engine: Engine, tmp_path: Path) -> None:
    away = Redis(unix_socket_path=str(tmp_path / "nobody.sock"))
    reply = answer(engine, Quarantine(Transit({"one": away}), "w1"), batch(), "w1")
    assert reply.error == "broker_unavailable"
    assert str(tmp_path) not in (reply.detail or "")


def test_whatever_goes_wrong_is_in_the_reply(
    transit: Redis, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("of our own making")

    monkeypatch.setattr(engine, "classify", fail)
    transit.set("i1", picture("red"))
    assert answer(engine, Quarantine(Transit({"one": transit}), "w1"), batch("i1"), "w1").error == "internal"


def test_a_reply_waits_out_a_short_absence_of_redis(redis_server: RedisServer, engine: Engine) -> None:
    with Redis.from_url(redis_server.url) as transit:
        redis_server.stop()
        returning = threading.Timer(0.3, redis_server.start)
        returning.start()
        send_reply(Quarantine(Transit({"one": transit}), "w1"), batch("i1"), ClassifyReply("b1", "w1"))
        returning.join()
        assert [reply.batch for reply in replies(transit)] == ["b1"]


def test_a_message_is_answered(consuming: Celery, transit: Redis) -> None:
    transit.set("i1", picture("blue"))
    consuming.send_task(TaskName.CLASSIFY_BATCH.value, (encode(batch("i1")),))
    assert transit.blpop(["reply"], timeout=20) is not None


def test_a_late_message_and_one_that_cannot_be_read_are_dropped_and_the_next_is_answered(
    consuming: Celery, transit: Redis
) -> None:
    transit.mset({"i1": picture("blue"), "i2": picture("red")})
    consuming.send_task(TaskName.CLASSIFY_BATCH.value, (encode(batch("i1", late_s=5)),))
    for poison in ({}, None, 5, {"batch": {}}, {**encode(batch("i1")), "deadline": "soon"}):
        consuming.send_task(TaskName.CLASSIFY_BATCH.value, (poison,))
    consuming.send_task(TaskName.CLASSIFY_BATCH.value, (encode(replace(batch("i2"), batch="b2")),))
    popped = transit.blpop(["reply"], timeout=20)
    assert popped is not None
    assert decode(ClassifyReply, json.loads(popped[1])).batch == "b2"  # type: ignore[index]
    assert transit.llen("reply") == 0


def test_a_job_message_that_cannot_be_read_runs_nothing(redis_server: RedisServer) -> None:
    run: list[str] = []

    class Noting(InferenceJobs):
        def run(self, job_id: str) -> None:
            run.append(job_id)

    from celery.contrib.testing.worker import start_worker

    app = make_celery(redis_server.url, role="inference")
    register_jobs(app, Noting(None, {}, "w1", 30))  # type: ignore[arg-type]
    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False, loglevel="WARNING"):
        for poison in (None, {}, 5, {"job": 7}):
            app.send_task(TaskName.RUN_BULK_JOB.value, (poison,))
        app.send_task(TaskName.RUN_BULK_JOB.value, (encode(RunJob("job_1")),))
        deadline = time.monotonic() + 20
        while not run and time.monotonic() < deadline:
            time.sleep(0.01)
    assert run == ["job_1"]
