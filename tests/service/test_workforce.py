"""Which workers a gateway sees in a real Redis: at once, of the release before too, and none that is gone."""

import asyncio
import json

from support.redis import RedisServer

from service.workforce import SEARCH_EVERY, Workforce
from workers.contract.messages import Heartbeat, encode
from workers.contract.queues import HEARTBEAT_PREFIX, WORKERS_KEY, Queue
from workers.heartbeat import beat_once
from workers.redis_url import connect, connect_async


def beat(name: str) -> Heartbeat:
    return Heartbeat(name, (Queue.INTERACTIVE.value,), 2, "cpu")


def test_a_worker_is_seen_while_it_gives_signs(redis_server: RedisServer) -> None:
    async def watch() -> None:
        async with connect_async(redis_server.url) as transit:
            workforce = Workforce(transit, 0.1)
            await workforce.refresh()
            assert workforce.workers == ()
            beat_once(client, beat("one"), ttl_s=30)
            beat_once(client, beat("two"), ttl_s=30)
            await workforce.refresh()
            assert [worker.worker for worker in workforce.workers] == ["one", "two"]
            assert workforce.slots(Queue.INTERACTIVE) == 4
            # As if its time were over.
            client.delete(HEARTBEAT_PREFIX + "two")
            await workforce.refresh()
            assert [worker.worker for worker in workforce.workers] == ["one"]

    with connect(redis_server.url) as client:
        asyncio.run(watch())
        assert client.smembers(WORKERS_KEY) == {b"one"}


def test_workers_of_the_release_before_are_seen_as_well(redis_server: RedisServer) -> None:
    """They write their key alone."""

    async def watch() -> list[list[str]]:
        seen = []
        async with connect_async(redis_server.url) as transit:
            workforce = Workforce(transit, 0.1)
            for look in range(SEARCH_EVERY + 1):
                await workforce.refresh()
                seen.append([worker.worker for worker in workforce.workers])
                if look == 0:
                    client.set(HEARTBEAT_PREFIX + "later", json.dumps(encode(beat("later"))), px=60_000)
        return seen

    with connect(redis_server.url) as client:
        client.set(HEARTBEAT_PREFIX + "before", json.dumps(encode(beat("before"))), px=60_000)
        seen = asyncio.run(watch())
    assert seen[0] == seen[1] == ["before"]
    assert seen[-1] == ["before", "later"]
