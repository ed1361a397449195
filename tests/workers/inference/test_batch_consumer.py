"""Batches taken from their queue by threads of a worker's own, on a real Redis."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs
from support.redis import RedisServer

from workers.celery_app import KEY_PREFIX, make_celery
from workers.contract.queues import Queue, TaskName
from workers.inference.batch_consumer import QUEUE, BatchConsumer

Start = Callable[..., BatchConsumer]


class Handled:
    """Payloads as they come; each takes until `go` is set."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.done: list[Any] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, payload: Any) -> None:
        self.begun.append(payload)
        self.go.wait(20)
        if payload == "crash":
            raise RuntimeError("crash")
        self.done.append(payload)


@pytest.fixture
def handled() -> Handled:
    return Handled()


@pytest.fixture
def start(redis_server: RedisServer, handled: Handled, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr("workers.inference.batch_consumer.WAIT_S", 0.1)
    consumers: list[BatchConsumer] = []

    def make(threads: int = 2) -> BatchConsumer:
        consumers.append(BatchConsumer(redis_server.url, handled, threads))
        consumers[-1].start()
        return consumers[-1]

    yield make
    handled.go.set()
    for consumer in consumers:
        consumer.close()


@pytest.fixture
def broker(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


def send(redis_server: RedisServer, *payloads: Any) -> None:
    celery = make_celery(redis_server.url)
    for payload in payloads:
        celery.send_task(TaskName.CLASSIFY_BATCH.value, (payload,))
    celery.close()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_messages_of_celery_are_handled_in_their_order(
    redis_server: RedisServer, start: Start, handled: Handled
) -> None:
    send(redis_server, {"batch": 1}, {"batch": 2}, {"batch": 3})
    start(threads=1)
    until(lambda: len(handled.done) == 3)
    assert handled.done == [{"batch": 1}, {"batch": 2}, {"batch": 3}]


def test_no_more_are_taken_than_there_are_threads(
    redis_server: RedisServer, start: Start, handled: Handled, broker: Redis
) -> None:
    handled.go.clear()
    send(redis_server, *range(5))
    start(threads=2)
    until(lambda: len(handled.begun) == 2)
    time.sleep(0.3)
    assert broker.llen(QUEUE) == 3


def test_what_was_taken_is_finished_after_the_word_to_stop_and_the_rest_stays(
    redis_server: RedisServer, start: Start, handled: Handled, broker: Redis
) -> None:
    handled.go.clear()
    send(redis_server, *range(3))
    consumer = start(threads=1)
    until(lambda: bool(handled.begun))
    consumer.stop()
    assert not consumer.is_finished
    handled.go.set()
    until(lambda: consumer.is_finished)
    assert (handled.done, broker.llen(QUEUE)) == ([0], 2)


def test_a_batch_that_crashes_takes_nobody_with_it(
    redis_server: RedisServer, start: Start, handled: Handled
) -> None:
    with capture_logs() as logged:
        send(redis_server, "crash", "next")
        start(threads=1)
        until(lambda: handled.done == ["next"])
    assert [line["event"] for line in logged] == ["batch.crashed"]


@pytest.mark.parametrize(
    "message", [b"x", b"{}", b"[]", b'{"headers": {"task": "other"}, "body": ""}', b'{"headers": {"task": 3}}']
)
def test_what_is_no_message_of_ours_is_dropped_with_a_line_in_the_log(
    redis_server: RedisServer, start: Start, handled: Handled, broker: Redis, message: bytes
) -> None:
    broker.lpush(QUEUE, message)
    with capture_logs() as logged:
        send(redis_server, "next")
        start(threads=1)
        until(lambda: handled.done == ["next"])
    assert [line["event"] for line in logged] == ["message.dropped"]


def test_a_key_of_another_type_goes(
    redis_server: RedisServer, start: Start, handled: Handled, broker: Redis
) -> None:
    broker.set(QUEUE, "x")
    with capture_logs() as logged:
        consumer = start(threads=1)
        until(lambda: not broker.exists(QUEUE))
        send(redis_server, "next")
        until(lambda: handled.done == ["next"])
    assert [line["event"] for line in logged] == ["broker.foreign_value"]
    assert consumer.is_connected


def test_a_broker_that_is_away_is_told_and_found_again(
    redis_server: RedisServer, start: Start, handled: Handled
) -> None:
    consumer = start()
    send(redis_server, "first")
    until(lambda: handled.done == ["first"])
    redis_server.stop()
    until(lambda: not consumer.is_connected)
    redis_server.start()
    send(redis_server, "second")
    until(lambda: handled.done == ["first", "second"])
    assert consumer.is_connected


def test_it_reads_the_queue_that_celery_would() -> None:
    assert KEY_PREFIX + Queue.INTERACTIVE.value == QUEUE
