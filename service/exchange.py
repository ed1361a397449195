"""A batch out, its reply back: image bytes to Redis, a reference by Celery, the reply from a list of our own.

Large images are in Redis before their batch is (see `service/intake.py`). Of several transit servers a batch has
one for all that it is made of, so that it costs the same round trips as with one server: the one where its large
images lie already, else one by its id.

Celery's result backend is not used: a result costs a subscription per task, and waiting for it blocks.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol
from uuid import uuid4

import structlog
from kombu.exceptions import OperationalError
from redis import RedisError

from service.batch_queue import BatchQueue
from service.line import Line, TransitAway
from workers.contract.messages import ClassifyBatch, ClassifyReply, InvalidMessage, decode
from workers.contract.queues import IMAGE_PREFIX
from workers.transit import place

log = structlog.get_logger()
# A worker's word for a transit server that it does not reach.
UNREACHED = "broker_unavailable"


class BrokerUnavailable(Exception):
    """Redis cannot be reached, so nothing can be queued."""


class ReplyInterrupted(Exception):
    """The connection that replies come by broke; whether the batch was classified is unknown."""


@dataclass(frozen=True)
class StoredImage:
    """An image whose bytes lie on a transit server already; its length is theirs.

    `cost` is what decoding it will take by what its first bytes declare, as of `models.cost`.
    """

    key: str
    size: int
    cost: int
    server: str

    def __len__(self) -> int:
        return self.size


ImageContent = bytes | StoredImage


class Place(NamedTuple):
    """The name of the transit server that a batch goes by, and there its reply's list and its images' keys."""

    server: str
    reply_to: str
    images: tuple[str, ...]


class WorkerLost(Exception):
    """The worker that had the batch in hand has fallen silent."""


class Exchange(Protocol):
    """Where the batcher sends its batches."""

    async def ask(self, batch: ClassifyBatch, images: Sequence[ImageContent]) -> ClassifyReply:
        """The worker's reply to `batch`, whose images are given in its order.

        Raises BrokerUnavailable, ReplyInterrupted, WorkerLost. Waits without an end: the caller has the deadline.
        """
        ...

    def place(self, batch: str, images: Sequence[ImageContent]) -> Place:
        """Where the batch of that id goes; those of `images` that are stored lie on one server."""
        ...


@dataclass
class CeleryExchange:
    """Batches by Celery and the transit servers, to which there are `lines`; `listen` must run for each of them.

    `usable()` names the servers that new images may go to. Images that no worker fetches are gone from Redis after
    `ttl_s`. `on_malformed` is called for each reply that cannot be read, which is then dropped; `on_sent` for each
    batch, with its server's number.
    """

    queue: BatchQueue
    lines: Mapping[str, Line]
    usable: Callable[[], Sequence[str]]
    ttl_s: float
    on_malformed: Callable[[], None] | None = None
    on_sent: Callable[[int], None] | None = None
    _pending: dict[str, tuple[str, asyncio.Future[ClassifyReply]]] = field(default_factory=dict, init=False)
    _sending: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def is_one(self) -> bool:
        return len(self.lines) == 1

    def servers(self) -> tuple[str, ...]:
        """Those that new images may go to: without any that was away a moment ago, unless all were."""
        names = tuple(self.usable())
        if len(names) == 1:
            return names
        return tuple(name for name in names if not self.lines[name].is_away) or names

    def place(self, batch: str, images: Sequence[ImageContent]) -> Place:
        stored = next((image.server for image in images if isinstance(image, StoredImage)), None)
        server = stored or place(batch, self.servers())
        stem = f"{IMAGE_PREFIX}{uuid4().hex}:"
        names = tuple(
            image.key if isinstance(image, StoredImage) else f"{stem}{n}" for n, image in enumerate(images)
        )
        return Place(server, self.lines[server].reply_to, names)

    async def append(self, server: str, key: str, data: bytes | bytearray, size: int, keep: Sequence[str]) -> None:
        """Add to an image, which has `size` bytes then; none of `keep` expires. Raises BrokerUnavailable."""
        line = self.lines[server]
        try:
            await line.start(line.append, key, data, size, keep)
        except TransitAway as error:
            raise BrokerUnavailable(str(error)) from error

    async def drop(self, server: str, keys: Sequence[str]) -> None:
        """Forget images, as far as they are there. While Redis is away nothing happens: they expire."""
        await self.lines[server].drop(keys)

    def fetch(self, image: StoredImage) -> bytes:
        """The image's bytes, for whoever keeps it. Raises BrokerUnavailable, also when it is gone."""
        try:
            return self.lines[image.server].fetch(image.key, len(image))
        except TransitAway as error:
            raise BrokerUnavailable(str(error)) from error

    async def ask(self, batch: ClassifyBatch, images: Sequence[ImageContent]) -> ClassifyReply:
        line = self.lines[batch.server]
        reply: asyncio.Future[ClassifyReply] = asyncio.get_running_loop().create_future()
        self._pending[batch.batch] = line.name, reply
        try:
            if self.is_one:
                # However long that takes: a short absence is waited out.
                await self._send(line, batch, images, reply)
                return await reply
            sending = asyncio.create_task(self._send(line, batch, images, reply))
            self._sending.add(sending)
            # Whoever finds the server away interrupts the reply, and who sends may be the last to notice.
            sending.add_done_callback(partial(self._end_sending, reply))
            try:
                # It may come before Redis' answer that the batch is queued. That is read all the same, for
                # cancelling would close the connection.
                return await reply
            except BaseException:
                sending.cancel()
                raise
        finally:
            del self._pending[batch.batch]

    async def _send(
        self,
        line: Line,
        batch: ClassifyBatch,
        images: Sequence[ImageContent],
        reply: "asyncio.Future[ClassifyReply]",
    ) -> None:
        given = {
            key: None if isinstance(image, StoredImage) else image
            for key, image in zip(batch.images, images, strict=True)
        }
        try:
            await line.put(given, int(self.ttl_s * 1e3))
        except TransitAway as error:
            if self.is_one:
                raise BrokerUnavailable(str(error)) from error
            # The batch is sent again, by another server where one can take it.
            raise ReplyInterrupted(str(error)) from error
        if reply.done():
            return
        try:
            await self.queue.put(batch)
        except (RedisError, OperationalError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error
        if self.on_sent:
            self.on_sent(line.number)

    async def listen(self, server: str) -> None:
        """Hand every reply that comes by that server to who waits for it, until cancelled; survives absences."""
        await self.lines[server].listen(self._deliver, partial(self.interrupt, server))

    def on_worker_lost(self, worker: str, in_hand: frozenset[str]) -> None:
        """Tell those who wait for a batch that the worker had in hand when it fell silent."""
        lost = [waiting for name, (_, waiting) in self._pending.items() if name in in_hand]
        if in_hand:
            log.error("worker.lost", worker=worker, batches=len(in_hand), sent_again=len(lost))
        for waiting in lost:
            if not waiting.done():
                waiting.set_exception(WorkerLost(f"{worker} fell silent with the batch in hand."))

    def interrupt(self, server: str, reason: str) -> None:
        """Tell those who wait for a batch that went by that server that nobody knows what becomes of it."""
        self.lines[server].note_away()
        for name, waiting in self._pending.values():
            if name == server and not waiting.done():
                waiting.set_exception(ReplyInterrupted(reason))

    def _deliver(self, payload: bytes | str) -> bool:
        """Whether it is a reply."""
        try:
            reply = decode(ClassifyReply, payload)
        except InvalidMessage as error:
            log.error("reply.malformed", reason=str(error))
            if self.on_malformed:
                self.on_malformed()
            return False
        server, waiting = self._pending.get(reply.batch, ("", None))
        if waiting and not waiting.done():
            if reply.error == UNREACHED and not self.is_one:
                self.lines[server].note_away()
                waiting.set_exception(ReplyInterrupted(f"{reply.worker}: {reply.detail}"))
            else:
                waiting.set_result(reply)
        return True

    def _end_sending(self, reply: "asyncio.Future[ClassifyReply]", sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        error = None if sending.cancelled() else sending.exception()
        if error and not reply.done():
            reply.set_exception(error)

    async def aclose(self) -> None:
        for sending in self._sending:
            sending.cancel()
        for line in self.lines.values():
            await line.aclose()
        await self.queue.aclose()

    def close(self) -> None:
        for line in self.lines.values():
            line.close()
