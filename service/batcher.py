"""Coalesces images waiting for the same model version into one queue message.

There is no delay window. Everything that waits leaves as soon as fewer messages are in flight than the workers can
take, or with the next reply where only the last of those slots is free and its share does not wait yet: at low
load a single image leaves at once, at high load batches grow by themselves. A message costs milliseconds, so this
file, not the worker, decides what an image costs.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import structlog

from models.cost import COSTLY_PIXELS
from models.drift.sketch import Sketch
from service.exchange import BrokerUnavailable, Exchange, ImageContent, ReplyInterrupted, WorkerLost
from service.lane import NO_PRIORITY, Answer, Lane, PendingImage, cost_of_explaining
from service.metrics import GatewayMetrics
from workers.contract.messages import BatchTimings, ClassifyBatch, ClassifyReply, Explain, ImageOutcome
from workers.traces import Attributes, Span, Tracer

log = structlog.get_logger()

# Pixels, as `models.cost` counts them. What a request has beyond the first goes the way of costly images.
MOST_OF_A_REQUEST = 4 * COSTLY_PIXELS


class TooManyWaiting(Exception):
    """The queue is full; `retry_after_s` is when it should have emptied at the present pace."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} images are waiting already; try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class NoLiveWorker(Exception):
    """No inference worker lives, or the last one fell silent while the image waited."""


class DeadlineExceeded(Exception):
    """Nobody answered in time."""


@dataclass(frozen=True)
class VersionKey:
    """A version and what is asked of it: what all images of a batch have in common.

    Where the `precision` is empty, the worker chooses. `outputs`, `prepared`, `coverage`, `similar` and `explain`
    are those of a `ClassifyBatch`.
    """

    model: str
    version: int
    artifact: str
    precision: str = ""
    outputs: tuple[str, ...] = ()
    prepared: bool = False
    coverage: float | None = None
    similar: int = 0
    explain: Explain | None = None


@dataclass
class Batcher:
    """Queues images and sends them in batches of at most `max_batch` images and `max_batch_bytes`.

    `slots()` is how many messages the live workers take at once; 0 means that none lives, and then
    `is_finished()` is false while one that was told to end still answers what it holds. More than `max_waiting`
    images, or `max_waiting_bytes` of them, are refused. A batch unanswered for `slot_timeout_s` no longer holds a
    slot: its message may be lost, and others wait. A reply counts as a sign of life for `reply_alive_s`. Of
    several transit `servers` any may break one after the other while an image waits. `on_batch` is told of each
    batch that was answered, with how many images it had, `on_sketch` of each sketch that came with a reply.
    """

    exchange: Exchange
    slots: Callable[[], int]
    metrics: GatewayMetrics
    max_batch: int
    max_batch_bytes: int
    max_waiting: int
    max_waiting_bytes: int
    tracer: Tracer | None = None
    is_finished: Callable[[], bool] = lambda: True
    servers: int = 1
    on_batch: Callable[[VersionKey, int, BatchTimings], None] | None = None
    on_sketch: Callable[[VersionKey, Sketch], None] | None = None
    slot_timeout_s: float = 4.0
    reply_alive_s: float = 0.5
    _lanes: dict[tuple[VersionKey, bool], Lane] = field(default_factory=dict, init=False)
    _under_way: set[PendingImage] = field(default_factory=set, init=False)
    _bytes: int = field(default=0, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _pace: float = field(default=50.0, init=False)
    _last_reply: float = field(default=0.0, init=False)

    async def classify(
        self,
        version: VersionKey,
        images: Sequence[ImageContent],
        *,
        top_k: int,
        timeout_s: float,
        request_id: str,
        traceparent: str | None = None,
        priority: int = NO_PRIORITY,
    ) -> list[Answer]:
        """The answers to `images`, in their order. If the caller is cancelled, images not yet sent never are.

        Those of a lower `priority` leave before all others that wait for the same.

        Raises:
            TooManyWaiting, NoLiveWorker, DeadlineExceeded, BrokerUnavailable.
        """
        self._admit(images)
        now = time.time()
        deadline = now + timeout_s
        loop = asyncio.get_running_loop()
        mine = [
            PendingImage(
                content,
                top_k,
                deadline,
                request_id,
                traceparent,
                loop.create_future(),
                now,
                priority,
                version.prepared,
                cost_of_explaining(version.explain),
            )
            for content in images
        ]
        for waiting in mine:
            self._under_way.add(waiting)
            self._bytes += len(waiting.content)
            waiting.answered.add_done_callback(partial(self._remove, waiting))
        cost = 0
        for waiting in mine:
            cost += waiting.cost
            is_costly = waiting.cost > COSTLY_PIXELS or cost > MOST_OF_A_REQUEST or version.explain is not None
            self._lane(version, is_costly).add(waiting)
        for costly in (False, True):
            self._pump(version, self._lane(version, costly))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.gather(*(waiting.answered for waiting in mine))
        except TimeoutError as error:
            raise DeadlineExceeded(f"No answer within {timeout_s:g} s.") from error
        finally:
            for waiting in mine:
                waiting.answered.cancel()

    async def load(self, version: VersionKey, *, timeout_s: float) -> ClassifyReply | None:
        """Have a worker load and warm the version before anybody waits for it; its reply where it cannot, or None.

        Without a worker, or in time, nothing is known against the version: None too.
        """
        if not self._anybody_lives():
            return None
        message = self._message(version, [], time.time(), time.time() + timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self.exchange.ask(message, [])
        except (TimeoutError, BrokerUnavailable, ReplyInterrupted, WorkerLost):
            return None
        return reply if reply.error else None

    async def watch_workers(self) -> None:
        """Fail what waits when the last worker falls silent, and pump again when one returns; until cancelled."""
        while True:
            await asyncio.sleep(0.1)
            if self._under_way and not self._anybody_lives() and self.is_finished():
                for waiting in list(self._under_way):
                    waiting.fail(NoLiveWorker("The last inference worker fell silent."))
            for key, lane in list(self._lanes.items()):
                self._pump(key[0], lane)
                if not lane.waiting and not lane.in_flight:
                    del self._lanes[key]

    @property
    def waiting(self) -> int:
        """Images admitted and not yet answered."""
        return len(self._under_way)

    def _admit(self, images: Sequence[ImageContent]) -> None:
        if not self._anybody_lives():
            raise NoLiveWorker("No inference worker is alive.")
        too_many = len(self._under_way) + len(images) > self.max_waiting
        too_large = self._bytes + sum(map(len, images)) > self.max_waiting_bytes
        # An empty queue takes one request of any permitted size, or it could never be served.
        if self._under_way and (too_many or too_large):
            retry_after = max(1, min(60, math.ceil(len(self._under_way) / self._pace)))
            raise TooManyWaiting(len(self._under_way), retry_after)

    def _anybody_lives(self) -> bool:
        """A busy machine may delay a heartbeat, so a recent reply counts as one."""
        return self.slots() > 0 or time.monotonic() - self._last_reply < self.reply_alive_s

    def _remove(self, waiting: PendingImage, _answered: asyncio.Future[Answer]) -> None:
        self._under_way.discard(waiting)
        self._bytes -= len(waiting.content)

    def _lane(self, version: VersionKey, costly: bool) -> Lane:
        return self._lanes.setdefault((version, costly), Lane(costly))

    def _has_slot(self, lane: Lane) -> bool:
        if lane.costly:
            return not any(other.in_flight for other in self._lanes.values() if other.costly)
        return lane.may_send(max(1, self.slots()))

    def _pump(self, version: VersionKey, lane: Lane) -> None:
        while lane.waiting and self._has_slot(lane):
            batch = lane.next_batch(self.max_batch, self.max_batch_bytes)
            if not batch:
                return
            lane.in_flight += 1
            lane.images_in_flight += len(batch)
            task = asyncio.create_task(self._send_batch(version, lane, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _pump_costly(self) -> None:
        """Of all versions' the lane first whose first image waits for longest."""
        costly = [(key[0], lane) for key, lane in self._lanes.items() if lane.costly and lane.waiting]
        for version, lane in sorted(costly, key=lambda found: found[1].waiting[0].since):
            self._pump(version, lane)

    async def _send_batch(self, version: VersionKey, lane: Lane, batch: list[PendingImage]) -> None:
        """Send a batch and hand out its reply; holds one of the lane's slots for at most `slot_timeout_s`."""
        sent_at = time.time()
        span = self._span(self.tracer, version, batch, sent_at) if self.tracer else None
        asking = asyncio.ensure_future(self._ask(version, batch, sent_at, span))
        try:
            await asyncio.wait([asking], timeout=self.slot_timeout_s)
        finally:
            lane.in_flight -= 1
            lane.images_in_flight -= len(batch)
        if lane.costly:
            self._pump_costly()
        else:
            self._pump(version, lane)
        try:
            # Once every client has left or been failed, nobody needs the reply.
            while not asking.done() and any(not waiting.answered.done() for waiting in batch):
                await asyncio.wait([asking], timeout=0.5)
            if not asking.done():
                return
            self._resolve(version, batch, asking.result(), sent_at)
        except ReplyInterrupted:
            broken = BrokerUnavailable("The connection to Redis broke twice while the image waited.")
            self._send_again(version, lane, batch, broken, self.servers)
        except WorkerLost:
            for waiting in batch:
                waiting.after_death = True
            lost = NoLiveWorker("Two inference workers fell silent with the image in hand.")
            self._send_again(version, lane, batch, lost, 1)
        except Exception as error:
            # Whatever it is: nobody else would tell those who wait.
            if not isinstance(error, BrokerUnavailable):
                log.error("batch.failed", exc_info=error)
            for waiting in batch:
                waiting.fail(error)
        finally:
            asking.cancel()
            if span:
                span.end(error=_failure_of(asking))

    def _span(self, tracer: Tracer, version: VersionKey, batch: list[PendingImage], sent_at: float) -> Span | None:
        """A batch is in the trace of its first request and links the others; the wait of each links the batch."""
        since: dict[str, float] = {}
        for waiting in batch:
            if waiting.traceparent:
                since.setdefault(waiting.traceparent, waiting.since)
        if not since:
            return None
        first, *others = since
        attributes: Attributes = {"model": version.model, "version": version.version, "images": len(batch)}
        span = tracer.start(
            "batch", parent=first, links=others, at=sent_at, kind="producer", attributes=attributes
        )
        for traceparent, began in since.items():
            tracer.record("wait", began, sent_at, parent=traceparent, links=[span.traceparent])
        return span

    async def _ask(
        self, version: VersionKey, batch: list[PendingImage], sent_at: float, span: Span | None
    ) -> ClassifyReply:
        deadline = max(waiting.deadline for waiting in batch)
        message = self._message(version, batch, sent_at, deadline, span.traceparent if span else None)
        return await self.exchange.ask(message, [waiting.content for waiting in batch])

    def _message(
        self,
        version: VersionKey,
        batch: list[PendingImage],
        sent_at: float,
        deadline: float,
        traceparent: str | None = None,
    ) -> ClassifyBatch:
        name = uuid4().hex
        place = self.exchange.place(name, [waiting.content for waiting in batch])
        return ClassifyBatch(
            batch=name,
            reply_to=place.reply_to,
            model=version.model,
            version=version.version,
            artifact=version.artifact,
            images=place.images,
            request_ids=tuple(dict.fromkeys(waiting.request_id for waiting in batch)),
            top_k=max((waiting.top_k for waiting in batch), default=1),
            deadline=deadline,
            sent_at=sent_at,
            traceparent=traceparent,
            after_death=any(waiting.after_death for waiting in batch),
            similar=version.similar,
            precision=version.precision,
            server=place.server,
            outputs=version.outputs,
            prepared=version.prepared,
            coverage=version.coverage,
            explain=version.explain,
        )

    def _resolve(
        self, version: VersionKey, batch: list[PendingImage], reply: ClassifyReply, sent_at: float
    ) -> None:
        self._last_reply = time.monotonic()
        took = max(1e-3, time.time() - sent_at)
        self._pace += 0.1 * (len(batch) / took - self._pace)
        self.metrics.observe_batch(len(batch), reply.timings)
        if self.on_batch:
            self.on_batch(version, len(batch), reply.timings)
        if self.on_sketch and reply.sketch:
            self.on_sketch(version, reply.sketch)
        for waiting, outcome in zip(batch, self._outcomes(batch, reply), strict=True):
            if not waiting.answered.done():
                waited_ms = (sent_at - waiting.since) * 1e3
                self.metrics.observe_wait(waited_ms)
                answer = Answer(outcome, reply.provider, reply.precision, reply.timings, waited_ms, len(batch))
                waiting.answered.set_result(answer)

    def _outcomes(self, batch: list[PendingImage], reply: ClassifyReply) -> Sequence[ImageOutcome]:
        """One for each image of the batch, whatever the reply holds."""
        if reply.error:
            return [ImageOutcome(error=reply.error, detail=reply.detail)] * len(batch)
        if len(reply.outcomes) != len(batch):
            self.metrics.observe_malformed("reply")
            detail = f"The worker answered for {len(reply.outcomes)} of {len(batch)} images."
            log.error("reply.malformed", worker=reply.worker, reason=detail)
            return [ImageOutcome(error="inference_failed", detail=detail)] * len(batch)
        return reply.outcomes

    def _send_again(
        self, version: VersionKey, lane: Lane, batch: list[PendingImage], given_up: Exception, times: int
    ) -> None:
        """Classifying twice harms nobody; an image that is interrupted more than so many times is given up.

        One that is stored has a single server, and is given up when it is interrupted twice.
        """
        for waiting in reversed(batch):
            waiting.sendings += 1
            if waiting.sendings > (1 if waiting.server else times):
                waiting.fail(given_up)
            elif not waiting.answered.done():
                lane.waiting.appendleft(waiting)
        self._lanes[version, lane.costly] = lane
        self._pump(version, lane)


def _failure_of(asking: "asyncio.Future[ClassifyReply]") -> str | None:
    """Why the batch has no answers; None when it has them."""
    if asking.cancelled() or not asking.done():
        return "abandoned"
    error = asking.exception()
    return type(error).__name__ if error else asking.result().error
