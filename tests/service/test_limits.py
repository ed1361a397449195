"""How much may be done with one key, whichever gateway is asked; and that no limit stands where Redis is away."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import redis
from support.api_keys import api_key
from support.colours import picture
from support.gateways import Gateways
from support.paused import paused
from support.redis import RedisServer
from support.sentinel import SentinelledRedis

from service.errors import Problem
from service.limits import KeyLimiter
from service.settings import GatewaySettings
from storage.keys import Key, KeyLimits
from workers.contract.queues import IN_FLIGHT_PREFIX, RATE_PREFIX
from workers.redis_url import connect_async
from workers.transit import place

KEY = api_key("abc123abc123")
PNG = {"content-type": "image/png"}


@asynccontextmanager
async def limiters(
    url: str, *, hold_s: float = 30, uncounted: list[None] | None = None, **defaults: int
) -> AsyncIterator[tuple[KeyLimiter, KeyLimiter]]:
    """As two gateways have them; `uncounted` grows with what they let pass without a count."""
    told = [] if uncounted is None else uncounted

    def limiter() -> KeyLimiter:
        client = connect_async(url, socket_timeout=1, socket_connect_timeout=1)
        return KeyLimiter({"one": client}, KeyLimits(**defaults), hold_s, lambda: told.append(None))

    made = limiter(), limiter()
    try:
        yield made
    finally:
        for each in made:
            await each.aclose()


async def refusal(call: Awaitable[object]) -> Problem | None:
    try:
        await call
    except Problem as problem:
        return problem
    return None


def test_of_several_servers_one_counts_a_key_and_one_that_is_away_lets_its_own_keys_pass(
    redis_server: RedisServer,
) -> None:
    second = RedisServer(durable=False).start()
    urls = {"one": redis_server.url, "two": second.url}
    uncounted: list[None] = []
    keys = [replace(KEY, prefix=f"key{number}") for number in range(8)]
    counted_by = {key.prefix: place(key.prefix, ("one", "two")) for key in keys}
    assert set(counted_by.values()) == {"one", "two"}

    def limiter(*names: str) -> KeyLimiter:
        clients = {name: connect_async(urls[name], socket_timeout=1, socket_connect_timeout=1) for name in names}
        return KeyLimiter(clients, KeyLimits(images_in_flight=2), 30, lambda: uncounted.append(None))

    async def refused(gateway: KeyLimiter, key: Key) -> bool:
        async def sent() -> None:
            async with gateway.in_flight(key, 2):
                pass

        return await refusal(sent()) is not None

    async def scenario() -> None:
        # Their lists are in another order, and they count alike.
        one, other = limiter("one", "two"), limiter("two", "one")
        async with AsyncExitStack() as stack:
            for key in keys:
                await stack.enter_async_context(one.in_flight(key, 2))
            assert [await refused(other, key) for key in keys] == [True] * len(keys)
            second.kill()
            for key in keys:
                assert await refused(other, key) == (counted_by[key.prefix] == "one")
            assert len(uncounted) == list(counted_by.values()).count("two")
        await one.aclose()
        await other.aclose()

    try:
        asyncio.run(scenario())
    finally:
        second.remove()


def test_gateways_count_the_requests_of_a_key_together(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with limiters(redis_server.url, requests_per_second=6) as (one, other):
            headers = await one.admit(KEY)
            problems = [None, *[await refusal(limiter.admit(KEY)) for limiter in (other, one) * 15]]
            assert problems[:6] == [None] * 6
            problem = next(filter(None, problems))
            assert (problem.status, problem.code) == (429, "rate_limited")
            policy = '"requests";q=6;w=1'
            assert problem.headers == {
                "Retry-After": "1",
                "RateLimit": '"requests";r=0;t=1',
                "RateLimit-Policy": policy,
            }
            assert headers == [(b"ratelimit-policy", policy.encode())]
            # Each key has its own, and 0 of a key stands before the gateway's.
            for another in (replace(KEY, prefix="another"), replace(KEY, limits=KeyLimits(requests_per_second=0))):
                assert await refusal(one.admit(another)) is None
            while await refusal(one.admit(KEY)):
                await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_without_a_limit_redis_is_not_asked(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with limiters(redis_server.url) as (one, _):
            await one.admit(KEY)
            async with one.in_flight(KEY, 64), one.in_flight(None, 64):
                pass
            assert await one.servers["one"].dbsize() == 0

    asyncio.run(scenario())


def test_gateways_count_the_images_of_a_key_together(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with limiters(redis_server.url, images_in_flight=5) as (one, other):
            async with one.in_flight(KEY, 3), other.in_flight(KEY, 2):
                problem = await refusal(one.in_flight(KEY, 1).__aenter__())
                assert problem is not None
                assert (problem.status, problem.code) == (429, "too_many_in_flight")
                assert problem.headers == {"Retry-After": "1"}
                assert "5 images of this key are on their way and the request has 1" in problem.detail
            async with one.in_flight(KEY, 5):
                pass
            # A request of more than the limit has its turn when nothing else is on its way.
            async with other.in_flight(KEY, 6):
                assert await refusal(one.in_flight(KEY, 1).__aenter__()) is not None
            assert await one.servers["one"].dbsize() == 0

    asyncio.run(scenario())


def test_what_a_request_held_is_free_however_it_ended(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with limiters(redis_server.url, images_in_flight=1) as (one, _):

            async def hold() -> None:
                async with one.in_flight(KEY, 1):
                    await asyncio.sleep(60)

            held = asyncio.create_task(hold())
            while not await one.servers["one"].dbsize():
                await asyncio.sleep(0.01)
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            assert await one.servers["one"].dbsize() == 0

    asyncio.run(scenario())


def test_what_a_killed_gateway_held_is_free_after_a_while(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with limiters(redis_server.url, images_in_flight=1, hold_s=1) as (one, other):
            killed = one.in_flight(KEY, 1)
            await killed.__aenter__()
            assert await refusal(other.in_flight(KEY, 1).__aenter__()) is not None
            while await refusal(other.in_flight(KEY, 1).__aenter__()):
                await asyncio.sleep(0.02)
            del killed
            # And its key goes with the last of them.
            while await other.servers["one"].dbsize():
                await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_while_redis_is_away_nothing_is_refused_and_each_is_counted(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        uncounted: list[None] = []
        async with limiters(redis_server.url, uncounted=uncounted, requests_per_second=1, images_in_flight=1) as (
            one,
            _,
        ):
            await one.admit(KEY)
            redis_server.stop()
            for _ in range(5):
                await one.admit(KEY)
                async with one.in_flight(KEY, 1), one.in_flight(KEY, 1):
                    pass
            assert len(uncounted) == 15
            redis_server.start()

            async def refuses() -> bool:
                return await refusal(one.admit(KEY)) is not None

            while not await refuses():
                await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_a_redis_that_hangs_holds_up_one_request_a_second(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        uncounted: list[None] = []
        async with limiters(redis_server.url, uncounted=uncounted, requests_per_second=1) as (one, _):
            await one.admit(KEY)
            assert redis_server.process is not None
            with paused(redis_server.process):
                began = asyncio.get_running_loop().time()
                await one.admit(KEY)
                waited = asyncio.get_running_loop().time() - began
                for _ in range(100):
                    await one.admit(KEY)
            # What is told is that the hundred did not each wait as the first did.
            assert asyncio.get_running_loop().time() - began < 10 * max(waited, 1)
            assert len(uncounted) == 101

    asyncio.run(scenario())


@pytest.mark.slow
def test_limits_stand_where_sentinels_say_who_is_master_and_passwords_are_asked() -> None:
    watched = SentinelledRedis()

    async def scenario() -> None:
        async with limiters(watched.url, requests_per_second=1, images_in_flight=1) as (one, other):
            await one.admit(KEY)
            assert await refusal(other.admit(KEY)) is not None
            async with one.in_flight(KEY, 1):
                assert await refusal(other.in_flight(KEY, 1).__aenter__()) is not None
            for each in (one, other):
                # redis-py leaves the connections to the Sentinels to whoever made the pool.
                for sentinel in each.servers["one"].connection_pool.sentinel_manager.sentinels:
                    await sentinel.aclose()

    try:
        watched.start()
        asyncio.run(scenario())
    finally:
        watched.remove()


def test_the_defaults_are_the_settings_and_no_limit_unless_set() -> None:
    assert GatewaySettings().key_limits == KeyLimits(0, 0, 0, 0)
    assert GatewaySettings(key_jobs_waiting=3, key_bytes_stored=9).key_limits == KeyLimits(0, 0, 3, 9)


# By HTTP, on two gateways


def test_a_key_that_asks_too_often_is_told_when_to_come_again(gateways: Gateways) -> None:
    key, headers = gateways.key("classify", requests_per_second=3)
    first = httpx.get(f"{gateways.urls[0]}/v1/models", headers=headers, timeout=60)
    assert (first.status_code, first.headers["ratelimit-policy"]) == (200, '"requests";q=3;w=1')
    # As many as any machine sends in a second, and more.
    with redis.Redis.from_url(gateways.redis_url) as counted:
        (window,) = counted.keys(f"{RATE_PREFIX}*{key.prefix}*")
        counted.set(window, 10**6, px=2000)
    refused = httpx.get(f"{gateways.urls[1]}/v1/jobs", headers=headers, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.headers["retry-after"], refused.headers["ratelimit"]) == ("1", '"requests";r=0;t=1')
    assert (
        "ratelimit-policy"
        not in httpx.get(f"{gateways.urls[1]}/v1/jobs", headers=gateways.key("classify")[1], timeout=60).headers
    )


def test_images_that_another_gateway_has_on_their_way_count(gateways: Gateways) -> None:
    key, headers = gateways.key("classify", images_in_flight=2)
    gateways.stacks[0].publish()
    url = f"{gateways.urls[0]}/v1/models/colours/classify"

    def code() -> str:
        code: str = httpx.post(url, content=picture("red"), headers={**headers, **PNG}, timeout=60).json()["code"]
        return code

    with redis.Redis.from_url(gateways.redis_url) as held:
        now = held.time()[0] * 1000
        held.zadd(f"{IN_FLIGHT_PREFIX}{key.prefix}", {"other:1": now + 60_000, "other:2": now + 60_000})
        assert code() == "too_many_in_flight"
        held.delete(f"{IN_FLIGHT_PREFIX}{key.prefix}")
        assert code() == "no_worker"
        assert not held.exists(f"{IN_FLIGHT_PREFIX}{key.prefix}")


def test_jobs_that_wait_and_bytes_that_are_stored_are_limited(gateways: Gateways) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("red/1.png", picture("red"))
    body = archive.getvalue()
    _, headers = gateways.key("train", jobs_waiting=2, bytes_stored=len(body) * 3 // 2)
    url = f"{gateways.urls[0]}/v1/datasets?name=colours"

    def upload(data: bytes | list[bytes] = body, **more: str) -> httpx.Response:
        # A list is sent in chunks, without saying how long it is.
        content = iter(data) if isinstance(data, list) else data
        return httpx.post(url, content=content, headers={**headers, **more}, timeout=60)

    first = upload(**{"idempotency-key": "mine"})
    assert (first.status_code, first.json()["size_bytes"]) == (202, len(body))
    for refused in (upload(), upload([body]), upload(**{"idempotency-key": "other"})):
        assert (refused.status_code, refused.json()["code"]) == (429, "storage_quota")
        # No time heals that.
        assert "retry-after" not in refused.headers
    assert upload(**{"idempotency-key": "mine"}).json()["id"] == first.json()["id"]

    publish = f"{gateways.urls[1]}/v1/models/new/versions"
    asked = {"architecture": "resnet18", "weights": "imagenet"}
    answers = [httpx.post(publish, json=asked, headers=headers, timeout=60) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 429]
    assert answers[1].json()["code"] == "too_many_jobs"
    assert int(answers[1].headers["retry-after"]) >= 1
    cancelled = httpx.post(
        f"{gateways.urls[0]}/v1/jobs/{answers[0].json()['id']}/cancel", headers=headers, timeout=60
    )
    assert cancelled.json()["state"] == "cancelled"
    assert httpx.post(publish, json=asked, headers=headers, timeout=60).status_code == 202
