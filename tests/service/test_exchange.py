"""Batches over two real transit servers and a real broker, answered by a worker's own code."""

import asyncio
import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from support.colours import make_colour_artifact, picture
from support.redis import RedisServer, running_transit_servers

from models.predictor import Predictor
from service.background import Background
from service.batch_queue import QUEUE, BatchQueue
from service.exchange import BrokerUnavailable, CeleryExchange, ImageContent, ReplyInterrupted, StoredImage
from service.line import open_lines
from workers.celery_app import KEY_PREFIX, make_celery
from workers.contract.messages import ClassifyBatch, ClassifyReply, decode
from workers.inference.engine import Engine
from workers.inference.loaded import LoadedModels
from workers.inference.quarantine import Quarantine
from workers.inference.tasks import answer, send_reply
from workers.redis_url import connect_async
from workers.transit import Transit, transit_servers

Scenario = Callable[[CeleryExchange], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("artifacts")
    make_colour_artifact(folder / "colours")
    models = LoadedModels(lambda name, _: Predictor(folder / name), memory_budget=2**30)
    made = Engine(models, concurrency=1, max_pixels=10_000)
    yield made
    made.close()


@pytest.fixture
def servers() -> Iterator[list[RedisServer]]:
    with running_transit_servers(2) as started:
        yield started


def urls(servers: list[RedisServer]) -> str:
    return ",".join(server.url for server in servers)


class Worker:
    """Takes batches from the broker and answers them, in a thread, as the task of an inference worker does."""

    def __init__(self, broker: str, transit: str, engine: Engine) -> None:
        self._broker, self._engine = Redis.from_url(broker), engine
        self._quarantine = Quarantine(Transit.open(transit), "w1")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Worker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._broker.close()

    def _run(self) -> None:
        while not self._over.is_set():
            popped = self._broker.brpop([KEY_PREFIX + QUEUE.value], timeout=0.1)
            if popped:
                (payload, *_), *_ = json.loads(base64.b64decode(json.loads(popped[1])["body"]))
                batch = decode(ClassifyBatch, payload)
                send_reply(self._quarantine, batch, answer(self._engine, self._quarantine, batch, "w1"))


def run(broker: str, transit: str, scenario: Scenario, on_sent: Callable[[int], None] | None = None) -> None:
    """The scenario with an exchange that listens."""

    async def start() -> None:
        lines = open_lines(transit_servers(transit))
        queue = BatchQueue(make_celery(broker), connect_async(broker))
        exchange = CeleryExchange(queue, lines, lambda: tuple(lines), ttl_s=30, on_sent=on_sent)
        background = Background()
        for server in lines:
            background.start("listen", exchange.listen(server))
        try:
            await scenario(exchange)
        finally:
            await background.close()
            await exchange.aclose()
            exchange.close()

    asyncio.run(start())


async def ask(exchange: CeleryExchange, *images: ImageContent, server: str = "") -> ClassifyReply:
    name, now = uuid4().hex, time.time()
    place = exchange.place(name, images)
    where = server or place.server
    batch = ClassifyBatch(
        name, place.reply_to, "colours", 1, "colours", place.images, ("r",), 1, now + 20, now, server=where
    )
    async with asyncio.timeout(20):
        return await exchange.ask(batch, images)


async def is_answered(exchange: CeleryExchange, server: str) -> bool:
    try:
        return (await ask(exchange, picture("red"), server=server)).error is None
    except ReplyInterrupted:
        return False


def test_batches_are_spread_and_each_is_answered(
    redis_server: RedisServer, servers: list[RedisServer], engine: Engine
) -> None:
    sent: Counter[int] = Counter()

    async def scenario(exchange: CeleryExchange) -> None:
        replies = await asyncio.gather(*(ask(exchange, picture(c)) for c in ("red", "green") * 30))
        assert [reply.outcomes[0].classes[0].label for reply in replies] == ["red", "green"] * 30

    with Worker(redis_server.url, urls(servers), engine):
        run(redis_server.url, urls(servers), scenario, lambda number: sent.update([number]))
    assert sent.total() == 60
    assert all(sent[number] > 10 for number in (1, 2))
    # Nothing is left but what a worker has in hand, and that is nothing.
    for server in servers:
        with Redis.from_url(server.url) as client:
            assert client.keys("*") == []


class SlowlyAnsweredQueue(BatchQueue):
    """Knows that a batch is queued only when whoever asked has its reply."""

    replied: asyncio.Event

    async def put(self, batch: ClassifyBatch) -> None:
        await super().put(batch)
        await self.replied.wait()


def test_a_reply_that_comes_before_the_answer_that_its_batch_is_queued_cuts_nobody_off(
    redis_server: RedisServer, servers: list[RedisServer], engine: Engine
) -> None:
    sent: Counter[int] = Counter()

    async def scenario(exchange: CeleryExchange) -> None:
        queue = exchange.queue = SlowlyAnsweredQueue(exchange.queue.celery, exchange.queue.broker)
        queue.replied = asyncio.Event()
        assert (await ask(exchange, picture("red"))).error is None
        queue.replied.set()
        async with asyncio.timeout(5):
            while not sent.total():
                await asyncio.sleep(0.01)

    with Worker(redis_server.url, urls(servers), engine):
        run(redis_server.url, urls(servers), scenario, lambda number: sent.update([number]))


def test_a_batch_goes_where_its_large_images_lie(
    redis_server: RedisServer, servers: list[RedisServer], engine: Engine
) -> None:
    large = picture("blue")

    async def scenario(exchange: CeleryExchange) -> None:
        for name in exchange.lines:
            await exchange.append(name, "fovea:image:x:0", large, len(large), ["fovea:image:x:0"])
            stored = StoredImage("fovea:image:x:0", len(large), 0, name)
            assert exchange.fetch(stored) == large
            reply = await ask(exchange, picture("red"), stored)
            assert [outcome.classes[0].label for outcome in reply.outcomes] == ["red", "blue"]
            # The worker has removed it with its reply.
            with pytest.raises(BrokerUnavailable, match="is gone"):
                exchange.fetch(stored)

    with Worker(redis_server.url, urls(servers), engine):
        run(redis_server.url, urls(servers), scenario)


def test_a_server_that_dies_interrupts_its_own_batches_and_is_avoided_until_it_is_back(
    redis_server: RedisServer, servers: list[RedisServer], engine: Engine
) -> None:
    async def scenario(exchange: CeleryExchange) -> None:
        dying, staying = exchange.lines
        # Nobody answers yet, so that there is one under way by each.
        waiting = [asyncio.create_task(ask(exchange, picture("red"), server=name)) for name in (dying, staying)]
        while len(exchange._pending) < 2 or client.llen(KEY_PREFIX + QUEUE.value) < 2:
            await asyncio.sleep(0.01)
        servers[0].kill()
        with pytest.raises(ReplyInterrupted):
            await waiting[0]
        assert not waiting[1].done()
        assert exchange.servers() == (staying,)
        with Worker(redis_server.url, urls(servers), engine):
            assert (await waiting[1]).error is None
            replies = await asyncio.gather(*(ask(exchange, picture("red")) for _ in range(20)))
            assert {reply.error for reply in replies} == {None}
            # One that is sent there nevertheless is told at once, and costs nobody else anything.
            with pytest.raises(ReplyInterrupted):
                await ask(exchange, picture("red"), server=dying)
            servers[0].start()
            async with asyncio.timeout(20):
                while exchange.servers() != (dying, staying):
                    await asyncio.sleep(0.05)
            # The worker, too, leaves it alone for a moment; the batcher would send such a batch by the other one.
            async with asyncio.timeout(20):
                while not await is_answered(exchange, dying):
                    await asyncio.sleep(0.1)

    with Redis.from_url(redis_server.url) as client:
        run(redis_server.url, urls(servers), scenario)


def test_a_worker_that_was_not_told_of_the_server_says_so_by_another(
    redis_server: RedisServer, servers: list[RedisServer], engine: Engine
) -> None:
    """As when a worker of a shorter list takes a batch that was queued before it began."""

    async def scenario(exchange: CeleryExchange) -> None:
        known, unknown = exchange.lines
        assert (await ask(exchange, picture("red"), server=known)).error is None
        with pytest.raises(ReplyInterrupted):
            await ask(exchange, picture("red"), server=unknown)

    other = RedisServer(durable=False).start()
    try:
        with Worker(redis_server.url, urls([servers[0], other]), engine):
            run(redis_server.url, urls(servers), scenario)
    finally:
        other.remove()


def test_with_one_server_the_batch_fails_as_soon_as_redis_does(
    redis_server: RedisServer, servers: list[RedisServer]
) -> None:
    async def scenario(exchange: CeleryExchange) -> None:
        servers[0].kill()
        with pytest.raises(BrokerUnavailable):
            await ask(exchange, picture("red"))

    run(redis_server.url, servers[0].url, scenario)
