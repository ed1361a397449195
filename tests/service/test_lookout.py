"""Which workers a gateway sees on a real Redis: at once, of the release before too, and none that is gone."""

import asyncio
import json

import uvloop
from support.proxy import Proxy
from support.redis import RedisServer

from service.lookout import MOST_KNOWN, SEARCH_EVERY, Lookout
from workers.contract.messages import Heartbeat, encode
from workers.contract.queues import HAND_PREFIX, HEARTBEAT_PREFIX, LATE_PREFIX, WORKERS_KEY, Queue
from workers.heartbeat import beat_once, hold_on
from workers.redis_url import connect, connect_async, connect_for_heartbeats, connect_for_heartbeats_async


def beat(name: str) -> Heartbeat:
    return Heartbeat(name, (Queue.INTERACTIVE.value,), 2, "cpu")


def test_a_worker_is_seen_while_it_gives_signs(redis_server: RedisServer) -> None:
    async def watch() -> None:
        async with connect_async(redis_server.url) as transit:
            lookout = Lookout(transit)
            await lookout.refresh()
            assert lookout.workers == ()
            beat_once(client, beat("one"), ttl_s=30)
            beat_once(client, beat("two"), ttl_s=30)
            await lookout.refresh()
            assert [worker.worker for worker in lookout.workers] == ["one", "two"]
            # As if its time were over.
            client.delete(HEARTBEAT_PREFIX + "two")
            await lookout.refresh()
            assert [worker.worker for worker in lookout.workers] == ["one"]

    with connect(redis_server.url) as client:
        asyncio.run(watch())
        assert client.smembers(WORKERS_KEY) == {b"one"}


def test_workers_of_the_release_before_are_seen_as_well(redis_server: RedisServer) -> None:
    """They write their key alone."""

    async def watch() -> list[list[str]]:
        seen = []
        async with connect_async(redis_server.url) as transit:
            lookout = Lookout(transit)
            for look in range(SEARCH_EVERY + 1):
                await lookout.refresh()
                seen.append([worker.worker for worker in lookout.workers])
                if look == 0:
                    client.set(HEARTBEAT_PREFIX + "later", json.dumps(encode(beat("later"))), px=60_000)
        return seen

    with connect(redis_server.url) as client:
        client.set(HEARTBEAT_PREFIX + "before", json.dumps(encode(beat("before"))), px=60_000)
        seen = asyncio.run(watch())
    assert seen[0] == seen[1] == ["before"]
    assert seen[-1] == ["before", "later"]


def test_a_worker_that_is_late_counts_while_its_process_holds_on_and_no_longer(redis_server: RedisServer) -> None:
    """As on a machine so busy that it cannot speak; a process that is gone holds on to nothing."""
    lost: list[str] = []

    def note(name: str, in_hand: frozenset[str]) -> None:
        assert in_hand == ({"batch"} if name == "dead" else set())
        lost.append(name)

    async def watch() -> None:
        async with connect_async(redis_server.url) as transit:
            lookout = Lookout(transit, on_lost=note)
            for name in ("late", "dead"):
                beat_once(client, beat(name), ttl_s=30, late_s=60)
            hold_on(alive, "late")
            await lookout.refresh()
            client.delete(HEARTBEAT_PREFIX + "late", HEARTBEAT_PREFIX + "dead")
            client.hset(HAND_PREFIX + "dead", "batch", "[]")
            # Something else lies where the hand of this one is looked for.
            client.set(HAND_PREFIX + "late", "x")
            await lookout.refresh()
            assert [worker.worker for worker in lookout.workers] == ["late"]
            assert lost == ["dead"]
            # One that hangs holds on, too, but not for ever.
            client.delete(LATE_PREFIX + "late")
            await lookout.refresh()
            assert lookout.workers == ()
            assert lost == ["dead", "late"]

    with connect(redis_server.url) as client, client.pubsub() as alive:
        asyncio.run(watch())


def test_a_connection_that_died_unnoticed_does_not_stop_the_watch_for_long(redis_server: RedisServer) -> None:
    """Another client of the gateway's waits ten seconds for an answer; by then every worker would be missed."""

    async def watch() -> None:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with connect_for_heartbeats(url) as worker:
            beat_once(worker, beat("one"), ttl_s=30)
            async with connect_for_heartbeats_async(url) as transit:
                lookout = Lookout(transit)
                await lookout.refresh()
                proxy.go_dead()
                proxy.heal()
                async with asyncio.timeout(8):
                    await asyncio.to_thread(beat_once, worker, beat("two"), 30)
                    await lookout.refresh()
                assert [worker.worker for worker in lookout.workers] == ["one", "two"]

    proxy = Proxy(redis_server.folder / "redis.sock").start()
    try:
        uvloop.run(watch())
    finally:
        proxy.stop()


def test_connections_that_are_torn_under_it_end_no_watch(redis_server: RedisServer) -> None:
    """uvloop has an error of its own for them."""

    async def watch() -> None:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with connect_async(url, socket_timeout=1, socket_connect_timeout=1) as transit:
            lookout = Lookout(transit)
            await lookout.refresh()
            assert lookout.reachable
            proxy.refuse()
            for connection in transit.connection_pool._available_connections:
                connection._writer.transport.abort()
            await lookout.refresh()
            assert not lookout.reachable
            proxy.heal()
            await lookout.refresh()
            assert lookout.reachable

    proxy = Proxy(redis_server.folder / "redis.sock").start()
    try:
        uvloop.run(watch())
    finally:
        proxy.stop()


def test_what_is_no_set_of_names_is_replaced_and_the_workers_are_found(redis_server: RedisServer) -> None:
    async def watch() -> None:
        async with connect_async(redis_server.url) as transit:
            lookout = Lookout(transit)
            for spoil in (
                lambda: client.set(WORKERS_KEY, "x"),
                lambda: client.sadd(WORKERS_KEY, *range(MOST_KNOWN + 1)),
                lambda: client.sadd(WORKERS_KEY, b"\xff\xfe"),
            ):
                client.delete(WORKERS_KEY)
                spoil()
                beat_once(client, beat("one"), ttl_s=30)
                await lookout.refresh()
                beat_once(client, beat("one"), ttl_s=30)
                await lookout.refresh()
                assert [worker.worker for worker in lookout.workers] == ["one"]

    with connect(redis_server.url) as client:
        asyncio.run(watch())
