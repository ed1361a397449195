"""Takes batches from their queue past kombu and Celery's pool, which cost more than the batch's fetch and reply.

The messages are Celery's, and so is the worker: a step of its consumer starts this one. Where somebody watches
Celery by its events, batches go Celery's own way instead.
"""

import base64
import binascii
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from celery import Celery, bootsteps
from redis import RedisError, ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.celery_app import KEY_PREFIX
from workers.contract.queues import QUEUE_OF_TASK, TaskName
from workers.draining import consumption_ended
from workers.redis_url import connect

TASK = TaskName.CLASSIFY_BATCH
QUEUE = KEY_PREFIX + QUEUE_OF_TASK[TASK].value
# How long one request for a message stays open, and with it the end of a worker that has nothing to do.
WAIT_S = 1.0
# A broker that is silent for so much longer is away.
SILENCE_S = 5.0
RETRY_S = 0.3
log = structlog.get_logger()


class BatchConsumer:
    """So many `threads` answer a batch each by `handle`; one of those that are free waits for the next message.

    As kombu does, a worker has one request for a message open at a time, so that workers take turns.
    """

    def __init__(self, broker_url: str, handle: Callable[[Any], None], threads: int) -> None:
        # Tried again below, where it can be told that the broker is away.
        self._broker = connect(broker_url, socket_timeout=SILENCE_S, retry=Retry(NoBackoff(), 0))
        self._handle = handle
        self._threads = [
            threading.Thread(target=self._serve, name=f"batch-{n}", daemon=True) for n in range(threads)
        ]
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._is_connected = True

    def install(self, app: Celery) -> None:
        """Have the consumer of `app`, of which this process has one, leave the queue to this one."""
        batches = self

        class BatchStep(bootsteps.StartStopStep):
            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, consumer: Any) -> None:
                consumer.task_consumer.cancel_by_queue(QUEUE_OF_TASK[TASK].value)
                batches.start()

        app.steps["consumer"].add(BatchStep)
        consumption_ended.connect(lambda **_: self.stop(), weak=False)

    def start(self) -> None:
        """Does nothing once it was started."""
        for thread in self._threads:
            if thread.ident is None:
                thread.start()

    def stop(self) -> None:
        """Take no more messages; what has been taken is answered."""
        self._stopping.set()

    @property
    def is_connected(self) -> bool:
        """Whether the broker answered the last request for a message."""
        return self._is_connected

    @property
    def is_finished(self) -> bool:
        """Whether it has stopped and has answered all that it took."""
        return not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        self.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._broker.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with self._turn:
                message = None if self._stopping.is_set() else self._next()
            if message is None or (payload := _payload(message)) is None:
                continue
            try:
                self._handle(payload)
            except Exception as error:
                # Nobody is above this thread: it has to live on, whatever a batch or Redis does.
                log.exception("batch.crashed", reason=repr(error))

    def _next(self) -> bytes | None:
        """The next message; None where there is none yet, and after a pause where there is no broker."""
        try:
            found: Any = self._broker.brpop([QUEUE], timeout=WAIT_S)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                self._lost(error)
                return None
            log.error("broker.foreign_value", key=QUEUE, reason=str(error))
            self._broker.unlink(QUEUE)
            return None
        except (RedisError, OSError) as error:
            self._lost(error)
            return None
        if not self._is_connected:
            log.info("broker.back")
        self._is_connected = True
        return found[1] if found else None

    def _lost(self, error: Exception) -> None:
        if self._is_connected:
            log.warning("broker.lost", reason=str(error))
        self._is_connected = False
        time.sleep(RETRY_S)


def _payload(message: bytes) -> Any:
    """The one argument of the message's task; None, with a line in the log, where it is no message of ours."""
    try:
        found = orjson.loads(message)
        if found["headers"]["task"] != TASK.value:
            raise ValueError(f"a message of the task {found['headers']['task']!r}")
        (payload,), _, _ = orjson.loads(base64.b64decode(found["body"]))
    except (ValueError, TypeError, LookupError, binascii.Error) as error:
        log.error("message.dropped", reason=f"not a message of Celery's: {error!r}")
        return None
    return payload
