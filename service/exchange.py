"""A batch out, its reply back: image bytes to Redis, a reference by Celery, the reply from a list of our own.

Large images are in Redis before their batch is (see `service/intake.py`).

Celery's result backend is not used: a result costs a subscription per task, and waiting for it blocks.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

import structlog
from kombu.exceptions import OperationalError
from redis import Redis, RedisError, ResponseError
from redis.asyncio import Redis as AsyncRedis
from redis.connection import PythonRespSerializer

from service.batch_queue import BatchQueue
from workers.contract.messages import ClassifyBatch, ClassifyReply, InvalidMessage, decode
from workers.contract.queues import IMAGE_PREFIX, REPLY_PREFIX
from workers.redis_url import UNREACHABLE

log = structlog.get_logger()
SMALL_VALUE_BYTES = 6000
# A body that comes at the least permitted rate brings a piece of a large image every four minutes.
RECEIVING_MS = 600_000
# One after the other; every release reads the replies of the one before and after it.
MOST_MALFORMED = 100


class BrokerUnavailable(Exception):
    """Redis cannot be reached, so nothing can be queued."""


class ReplyInterrupted(Exception):
    """The connection that replies come by broke; whether the batch was classified is unknown."""


@dataclass(frozen=True)
class StoredImage:
    """An image whose bytes lie in the transit Redis already; its length is theirs.

    `cost` is what decoding it will take by what its first bytes declare, as of `models.cost`.
    """

    key: str
    size: int
    cost: int

    def __len__(self) -> int:
        return self.size


ImageContent = bytes | StoredImage


class WorkerLost(Exception):
    """The worker that had the batch in hand has fallen silent."""


class Exchange(Protocol):
    """Where the batcher sends its batches."""

    async def ask(self, batch: ClassifyBatch, images: Sequence[ImageContent]) -> ClassifyReply:
        """The worker's reply to `batch`, whose images are given in its order.

        Raises BrokerUnavailable, ReplyInterrupted, WorkerLost. Waits without an end: the caller has the deadline.
        """
        ...

    def names(self, images: Sequence[ImageContent]) -> tuple[str, tuple[str, ...]]:
        """Where the reply to a batch is to go, and names for its images."""
        ...


def uncopied_values() -> PythonRespSerializer:
    """A packer of Redis commands that leaves values above `SMALL_VALUE_BYTES` where they are.

    hiredis' packer, the default, copies them: with a batch of photographs that is their whole size once more.
    """
    return PythonRespSerializer(SMALL_VALUE_BYTES, _encoded)


def _encoded(value: bytes | bytearray | str | int) -> bytes | bytearray:
    return value if isinstance(value, (bytes, bytearray)) else str(value).encode()


@dataclass
class CeleryExchange:
    """Batches by Celery and Redis; `listen` must run for replies to arrive.

    Images that no worker fetches are gone from Redis after `ttl_s`. `on_malformed` is called for each reply that
    cannot be read, which is then dropped.
    """

    queue: BatchQueue
    transit: Redis
    replies: AsyncRedis
    ttl_s: float
    on_malformed: Callable[[], None] | None = None
    _pending: dict[str, asyncio.Future[ClassifyReply]] = field(default_factory=dict, init=False)
    _reply_to: str = field(default_factory=lambda: REPLY_PREFIX + uuid4().hex, init=False)

    def __post_init__(self) -> None:
        self._senders = ThreadPoolExecutor(2, thread_name_prefix="send")

    def names(self, images: Sequence[ImageContent]) -> tuple[str, tuple[str, ...]]:
        stem = f"{IMAGE_PREFIX}{uuid4().hex}:"
        return self._reply_to, tuple(
            image.key if isinstance(image, StoredImage) else f"{stem}{n}" for n, image in enumerate(images)
        )

    async def append(self, key: str, data: bytes | bytearray, size: int, keep: Sequence[str]) -> None:
        """Add to an image, which has `size` bytes then; none of `keep` expires. Raises BrokerUnavailable."""
        await asyncio.get_running_loop().run_in_executor(self._senders, self._append, key, data, size, keep)

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget images, as far as they are there. While Redis is away nothing happens: they expire."""
        with suppress(RedisError, OSError):
            await asyncio.get_running_loop().run_in_executor(self._senders, self.transit.unlink, *keys)

    def fetch(self, image: StoredImage) -> bytes:
        """The image's bytes, for whoever keeps it. Raises BrokerUnavailable, also when it is gone."""
        try:
            data = self.transit.get(image.key)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error
        if not isinstance(data, bytes) or len(data) != len(image):
            raise BrokerUnavailable(f"{image.key} is gone.")
        return data

    async def ask(self, batch: ClassifyBatch, images: Sequence[ImageContent]) -> ClassifyReply:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[ClassifyReply] = loop.create_future()
        self._pending[batch.batch] = reply
        try:
            await loop.run_in_executor(self._senders, self._send, batch, images)
            return await reply
        finally:
            del self._pending[batch.batch]

    def _append(self, key: str, data: bytes | bytearray, size: int, keep: Sequence[str]) -> None:
        try:
            with self.transit.pipeline(transaction=False) as pipe:
                pipe.append(key, data)
                for other in keep:
                    pipe.pexpire(other, RECEIVING_MS)
                length, *_ = pipe.execute()
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error
        if length != size:
            raise BrokerUnavailable(f"{key} has {length} bytes, not {size}: a part of it was lost.")

    def _send(self, batch: ClassifyBatch, images: Sequence[ImageContent]) -> None:
        expires = int(self.ttl_s * 1e3)
        try:
            with self.transit.pipeline(transaction=False) as pipe:
                for key, image in zip(batch.images, images, strict=True):
                    if isinstance(image, StoredImage):
                        pipe.pexpire(key, expires)
                    else:
                        pipe.set(key, image, px=expires)
                pipe.execute()
            self.queue.put(batch)
        except (RedisError, OperationalError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error

    async def listen(self) -> None:
        """Hand every reply to who waits for it, until cancelled; survives the absence of Redis."""
        malformed = 0
        while True:
            try:
                popped = await self.replies.blpop([self._reply_to], timeout=5)
            except UNREACHABLE as error:
                if isinstance(error, ResponseError):
                    await self._move()
                self._interrupt(str(error))
                await asyncio.sleep(0.2)
                continue
            if popped and self._deliver(popped[1]):
                malformed = 0
            elif popped:
                malformed += 1
            if malformed > MOST_MALFORMED:
                malformed = 0
                await self._move()
                self._interrupt("replies could not be told from other values")

    def on_worker_lost(self, worker: str, in_hand: frozenset[str]) -> None:
        """Tell those who wait for a batch that the worker had in hand when it fell silent."""
        lost = [waiting for name, waiting in self._pending.items() if name in in_hand]
        if in_hand:
            log.error("worker.lost", worker=worker, batches=len(in_hand), sent_again=len(lost))
        for waiting in lost:
            if not waiting.done():
                waiting.set_exception(WorkerLost(f"{worker} fell silent with the batch in hand."))

    async def _move(self) -> None:
        """Have replies sent to another list, for what lies in this one is not ours; or it is no list."""
        left, self._reply_to = self._reply_to, REPLY_PREFIX + uuid4().hex
        log.error("transit.foreign_value", key=left)
        with suppress(*UNREACHABLE):
            await self.replies.unlink(left)

    def _deliver(self, payload: bytes | str) -> bool:
        """Whether it is a reply."""
        try:
            reply = decode(ClassifyReply, payload)
        except InvalidMessage as error:
            log.error("reply.malformed", reason=str(error))
            if self.on_malformed:
                self.on_malformed()
            return False
        waiting = self._pending.get(reply.batch)
        if waiting and not waiting.done():
            waiting.set_result(reply)
        return True

    def _interrupt(self, reason: str) -> None:
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(ReplyInterrupted(reason))

    def close(self) -> None:
        self._senders.shutdown(wait=False, cancel_futures=True)
        self.queue.close()
