"""Which workers a gateway counts on, over several real Redis servers, and which of the servers it uses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from redis import Redis
from support.redis import RedisServer

from service.lookout import Lookout
from service.workforce import Workforce
from workers.contract.messages import Heartbeat
from workers.contract.queues import HEARTBEAT_PREFIX, Queue
from workers.heartbeat import beat_once
from workers.redis_url import connect, connect_for_heartbeats_async

NAMES = ("one", "two")


@pytest.fixture
def servers() -> Iterator[tuple[RedisServer, ...]]:
    started = tuple(RedisServer().start() for _ in NAMES)
    yield started
    for server in started:
        server.remove()


def beat(name: str, slots: int = 2) -> Heartbeat:
    return Heartbeat(name, (Queue.INTERACTIVE.value,), slots, "cpu")


def watch(
    servers: tuple[RedisServer, ...],
    scenario: Callable[[Workforce, list[Redis]], Awaitable[None]],
    on_start: Callable[[Heartbeat], None] | None = None,
) -> None:
    """Run the scenario with a workforce over the servers, and a client to each of them."""

    async def start() -> None:
        async with AsyncExitStack() as stack:
            clients = [stack.enter_context(connect(server.url)) for server in servers]
            lookouts = {
                name: Lookout(await stack.enter_async_context(connect_for_heartbeats_async(server.url)), number)
                for number, (name, server) in enumerate(zip(NAMES, servers, strict=False), 1)
            }
            await scenario(Workforce(lookouts, 0.1, on_start), clients)

    asyncio.run(start())


def test_a_worker_that_is_told_to_end_takes_nothing_more_and_is_not_finished_before_it_is_gone(
    redis_server: RedisServer,
) -> None:
    async def scenario(workforce: Workforce, clients: list[Redis]) -> None:
        beat_once(clients[0], beat("leaving", slots=0), ttl_s=30)
        await workforce.refresh()
        assert (workforce.on(Queue.INTERACTIVE), workforce.slots(Queue.INTERACTIVE)) == ((), 0)
        assert not workforce.is_finished(Queue.INTERACTIVE)
        assert workforce.is_finished(Queue.TRAINING)
        clients[0].delete(HEARTBEAT_PREFIX + "leaving")
        await workforce.refresh()
        assert workforce.is_finished(Queue.INTERACTIVE)

    watch((redis_server,), scenario)


def test_a_worker_counts_once_however_many_servers_hear_it(servers: tuple[RedisServer, ...]) -> None:
    started: list[str] = []

    async def scenario(workforce: Workforce, clients: list[Redis]) -> None:
        await workforce.refresh()
        for client in clients:
            beat_once(client, beat("both"), ttl_s=30)
        await workforce.refresh()
        assert workforce.slots(Queue.INTERACTIVE) == 2
        assert workforce.answering == {1: True, 2: True}
        # What one server has heard already the other hears a moment later.
        beat_once(clients[1], replace(beat("both"), slots=0), ttl_s=30)
        await workforce.refresh()
        assert workforce.slots(Queue.INTERACTIVE) == 0

    watch(servers, scenario, lambda worker: started.append(worker.worker))
    assert started == ["both"]


def test_a_server_is_used_once_every_worker_is_heard_there(servers: tuple[RedisServer, ...]) -> None:
    """As when servers are added while workers of the old list still run."""

    async def scenario(workforce: Workforce, clients: list[Redis]) -> None:
        await workforce.refresh()
        assert workforce.usable == ("one", "two")
        for client in clients:
            beat_once(client, beat("new"), ttl_s=30)
        beat_once(clients[0], beat("old"), ttl_s=30)
        await workforce.refresh()
        assert workforce.usable == ("one",)
        assert len(workforce.workers) == 2
        clients[0].delete(HEARTBEAT_PREFIX + "old")
        await workforce.refresh()
        assert workforce.usable == ("one", "two")
        # Where no list has a server in common with every other, the one that the most workers have.
        beat_once(clients[0], beat("first"), ttl_s=30)
        for name in ("second", "third"):
            beat_once(clients[1], beat(name), ttl_s=30)
        await workforce.refresh()
        assert workforce.usable == ("two",)

    watch(servers, scenario)


def test_a_server_that_is_away_is_avoided_and_the_workers_live_on(servers: tuple[RedisServer, ...]) -> None:
    async def scenario(workforce: Workforce, clients: list[Redis]) -> None:
        for client in clients:
            beat_once(client, beat("worker"), ttl_s=30)
        await workforce.refresh()
        servers[0].stop()
        await workforce.refresh()
        assert (workforce.usable, workforce.answering, workforce.reachable) == (
            ("two",),
            {1: False, 2: True},
            True,
        )
        assert workforce.slots(Queue.INTERACTIVE) == 2
        servers[1].stop()
        await workforce.refresh()
        assert (workforce.usable, workforce.reachable) == (("one", "two"), False)
        servers[0].start()
        # It has forgotten the workers; they speak again.
        await workforce.refresh()
        beat_once(clients[0], beat("worker"), ttl_s=30)
        await workforce.refresh()
        assert (workforce.usable, workforce.slots(Queue.INTERACTIVE)) == (("one",), 2)

    watch(servers, scenario)
