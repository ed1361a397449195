"""Where batches are queued for the workers: Celery's messages, without what it costs to have Celery write each.

`Celery.send_task` takes more than a millisecond, most of it for what is the same in every message. Here Celery and
kombu write one, and each batch's is that one with its own ids and arguments. A test holds the two side by side.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
from celery import Celery
from kombu import Connection
from redis.asyncio import Redis as AsyncRedis

from service.kept_connection import KeptConnection
from workers.celery_app import KEY_PREFIX
from workers.contract.messages import ClassifyBatch, encode
from workers.contract.queues import QUEUE_OF_TASK, TaskName

TASK = TaskName.CLASSIFY_BATCH
QUEUE = QUEUE_OF_TASK[TASK]
# Texts for people who look into a queue, which are not free to make.
SHOWN: Mapping[str, Any] = {"argsrepr": "", "kwargsrepr": ""}


@dataclass
class BatchQueue:
    """Puts batches where `celery`, whose broker `broker` is a client of, would put them."""

    celery: Celery
    broker: AsyncRedis
    _sample: Mapping[str, Any] = field(init=False)
    _options: Any = field(init=False)

    def __post_init__(self) -> None:
        self._sample = _written_by_kombu(self.celery)
        self._outgoing = KeptConnection(self.broker)
        (_, _, self._options) = orjson.loads(base64.b64decode(self._sample["body"]))

    async def put(self, batch: ClassifyBatch) -> None:
        """Raises RedisError, OperationalError, OSError when the broker cannot be reached or takes nothing."""
        if self.celery.conf.task_send_sent_event:
            # Who watches Celery is told of every task by Celery.
            await asyncio.to_thread(self.celery.send_task, TASK.value, (encode(batch),), **SHOWN)
        else:
            await self._outgoing.execute(("LPUSH", KEY_PREFIX + QUEUE.value, self._message(batch)))

    def _message(self, batch: ClassifyBatch) -> bytes:
        sample, task = self._sample, str(uuid4())
        body = base64.b64encode(orjson.dumps(((batch,), {}, self._options)))
        return orjson.dumps(
            {
                **sample,
                "body": body.decode(),
                "headers": {**sample["headers"], "id": task, "root_id": task},
                "properties": {**sample["properties"], "correlation_id": task, "delivery_tag": str(uuid4())},
            }
        )

    async def aclose(self) -> None:
        await self.broker.aclose()


def _written_by_kombu(celery: Celery) -> dict[str, Any]:
    """A message as it would lie in the queue. It goes into this process's memory, and out again."""
    with Connection("memory://") as connection:
        celery.send_task(TASK.value, (None,), connection=connection, **SHOWN)
        channel: Any = connection.default_channel
        message: dict[str, Any] = channel._get(QUEUE.value)
    return message
