"""Commands over one connection, to a real Redis that refuses, hangs and breaks off."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import uvloop
from redis import ResponseError
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from support.proxy import Proxy
from support.redis import RedisServer

from service.kept_connection import KeptConnection
from workers.redis_url import connect_async

Scenario = Callable[[KeptConnection, AsyncRedis], Awaitable[None]]


def run(server: RedisServer, scenario: Scenario) -> None:
    """The scenario with a kept connection and another client, in asyncio's loop and in the gateway's."""

    async def start() -> None:
        async with connect_async(server.url) as client, connect_async(server.url) as other:
            await scenario(KeptConnection(client), other)

    for make_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(start())


def test_commands_that_are_sent_together_are_answered_in_order(redis_server: RedisServer) -> None:
    key = uuid4().hex

    async def scenario(kept: KeptConnection, _: AsyncRedis) -> None:
        storing = ("SET", key, b"x" * 200_000, "PX", 60_000)
        assert await kept.execute(storing, ("STRLEN", key), ("GET", "none")) == [b"OK", 200_000, None]

    run(redis_server, scenario)


def test_a_refusal_is_raised_and_mixes_up_no_answers(redis_server: RedisServer) -> None:
    key = uuid4().hex

    async def scenario(kept: KeptConnection, _: AsyncRedis) -> None:
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await kept.execute(("SET", key, "text"), ("LPUSH", key, "item"), ("STRLEN", key))
        assert await kept.execute(("STRLEN", key)) == [4]
        await kept.execute(("DEL", key))

    run(redis_server, scenario)


def test_who_is_cancelled_leaves_no_answer_to_the_next(redis_server: RedisServer) -> None:
    key = uuid4().hex

    async def scenario(kept: KeptConnection, other: AsyncRedis) -> None:
        waiting = asyncio.create_task(kept.execute(("BLPOP", key, 5)))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await other.rpush(key, "late")
        assert await kept.execute(("LLEN", key)) == [1]
        await other.delete(key)

    run(redis_server, scenario)


@pytest.mark.parametrize("wait_s", [0, 0.2], ids=["before it is noticed", "after it was noticed"])
def test_a_connection_that_is_broken_off_is_made_again(redis_server: RedisServer, wait_s: float) -> None:
    async def scenario(kept: KeptConnection, other: AsyncRedis) -> None:
        [number] = await kept.execute(("CLIENT", "ID"))
        await other.client_kill_filter(_id=number)
        await asyncio.sleep(wait_s)
        [after] = await kept.execute(("CLIENT", "ID"))
        assert after != number

    run(redis_server, scenario)


def test_where_a_loss_has_to_be_known_a_broken_connection_is_an_error_once(redis_server: RedisServer) -> None:
    async def scenario(kept: KeptConnection, other: AsyncRedis) -> None:
        kept.can_repeat = False
        [number] = await kept.execute(("CLIENT", "ID"))
        await other.client_kill_filter(_id=number)
        with pytest.raises(RedisConnectionError):
            await kept.execute(("CLIENT", "ID"))
        [after] = await kept.execute(("CLIENT", "ID"))
        assert after != number

    run(redis_server, scenario)


def test_what_comes_meanwhile_waits_for_its_turn(redis_server: RedisServer) -> None:
    key = uuid4().hex

    async def scenario(kept: KeptConnection, other: AsyncRedis) -> None:
        first = asyncio.create_task(kept.execute(("BLPOP", key, 5)))
        second = asyncio.create_task(kept.execute(("ECHO", "second")))
        await asyncio.sleep(0.1)
        assert not second.done()
        await other.rpush(key, "first")
        assert [await first, await second] == [[[key.encode(), b"first"]], [b"second"]]

    run(redis_server, scenario)


def test_one_that_the_network_has_reset_is_made_again(redis_server: RedisServer) -> None:
    proxy = Proxy(redis_server.folder / "redis.sock").start()

    async def scenario(_: KeptConnection, __: AsyncRedis) -> None:
        async with connect_async(f"redis://127.0.0.1:{proxy.port}/0") as client:
            kept = KeptConnection(client)
            assert await kept.execute(("ECHO", "before")) == [b"before"]
            proxy.refuse()
            await asyncio.sleep(0.2)
            with pytest.raises(RedisConnectionError):
                await kept.execute(("ECHO", "meanwhile"))
            proxy.heal()
            assert await kept.execute(("ECHO", "after")) == [b"after"]

    try:
        run(redis_server, scenario)
    finally:
        proxy.stop()
