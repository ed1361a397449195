"""Batches in the queue: beside what Celery puts there itself, in a real Redis."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.signals import after_task_publish
from redis import Redis
from support.redis import RedisServer

from service.batch_queue import BatchQueue
from workers.celery_app import KEY_PREFIX, make_celery
from workers.contract.messages import ClassifyBatch, decode, encode
from workers.contract.queues import Queue, TaskName
from workers.redis_url import connect, connect_async

BATCH = ClassifyBatch(
    "b1", "fovea:reply:1", "cats", 3, "models/cats/3/", ("fovea:image:1:0",), ("r1",), 5, 2e9, 1e9
)
LYING = KEY_PREFIX + Queue.INTERACTIVE.value
# Of each message its own.
IDS = ("id", "root_id", "correlation_id", "delivery_tag")


@pytest.fixture
def broker(redis_server: RedisServer) -> Iterator[Redis]:
    with connect(redis_server.url) as client:
        client.delete(LYING)
        yield client


def put(celery: Celery, server: RedisServer, times: int = 1) -> None:
    async def start() -> None:
        queue = BatchQueue(celery, connect_async(server.url))
        for _ in range(times):
            await queue.put(BATCH)
        await queue.aclose()

    asyncio.run(start())


def taken(broker: Redis) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(broker.rpop(LYING))  # type: ignore[arg-type]
    return message


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    body = json.loads(base64.b64decode(message["body"]))
    parts = {name: {k: v for k, v in message[name].items() if k not in IDS} for name in ("headers", "properties")}
    return {**message, **parts, "body": body}


def test_a_batch_lies_in_the_queue_as_celery_would_have_put_it_there(
    redis_server: RedisServer, broker: Redis
) -> None:
    celery = make_celery(redis_server.url)
    celery.send_task(TaskName.CLASSIFY_BATCH.value, (encode(BATCH),), argsrepr="", kwargsrepr="")
    expected = taken(broker)
    put(celery, redis_server)
    assert without_ids(taken(broker)) == without_ids(expected)


def test_every_message_has_ids_of_its_own_and_its_own_batch(redis_server: RedisServer, broker: Redis) -> None:
    put(make_celery(redis_server.url), redis_server, times=2)
    first, second = taken(broker), taken(broker)
    assert first["headers"]["id"] == first["headers"]["root_id"] == first["properties"]["correlation_id"]
    assert first["headers"]["id"] != second["headers"]["id"]
    assert first["properties"]["delivery_tag"] != second["properties"]["delivery_tag"]
    ((payload,), _, _) = json.loads(base64.b64decode(first["body"]))
    assert decode(ClassifyBatch, payload) == BATCH


def test_only_where_celery_is_watched_it_sends_each_batch_itself(redis_server: RedisServer, broker: Redis) -> None:
    sent: list[str] = []

    def note(sender: str, **_: object) -> None:
        sent.append(sender)

    # The one that the others are written after is Celery's in any case.
    sample = 1
    for events in (False, True):
        celery = make_celery(redis_server.url, events=events)
        after_task_publish.connect(note)
        try:
            put(celery, redis_server)
        finally:
            after_task_publish.disconnect(note)
        assert sent == [TaskName.CLASSIFY_BATCH.value] * (sample + events)
        sent.clear()
        assert taken(broker)["headers"]["task"] == TaskName.CLASSIFY_BATCH.value
