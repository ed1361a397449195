"""How much may be done with one key: requests a second and images in flight, counted in Redis so gateways agree.

Of several transit servers each key is counted by one, which is found by the key alone.
Jobs waiting and bytes stored are counted by the database, in the transaction that adds one: `storage.owner`.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from service.errors import Problem
from storage.keys import Key, KeyLimits
from storage.owner import Owner
from workers.contract.queues import IN_FLIGHT_PREFIX, RATE_PREFIX
from workers.redis_url import UNREACHABLE
from workers.transit import place

Answer = TypeVar("Answer")
# After Redis failed, nothing is counted for so long, so that requests do not wait for it one after the other.
UNCOUNTED_S = 1.0
# One member for each image, scored by when it is given up: what a killed gateway held is free again then. A key
# that has nothing in flight may send any number, or a request of more than its limit could never be served.
HOLD = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local held = redis.call('ZCARD', KEYS[1])
local wanted = tonumber(ARGV[2])
if held > 0 and held + wanted > tonumber(ARGV[3]) then
  return held
end
for number = 1, wanted do
  redis.call('ZADD', KEYS[1], now + ARGV[4], ARGV[1] .. ':' .. number)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return -1
"""
log = structlog.get_logger()


class Counters:
    """The counts of some keys, on one server. While it is away nothing is counted, and `on_uncounted` is told."""

    def __init__(self, redis: Redis, on_uncounted: Callable[[], None]) -> None:
        self.redis = redis
        self._on_uncounted = on_uncounted
        self._uncounted_until = 0.0
        # The address is in the pool, which knows TLS, passwords and Sentinels as every other client here.
        pool: dict[str, Any] = {"connection_pool": redis.connection_pool}
        counters = RedisStorage("async+redis://", implementation="redispy", key_prefix=RATE_PREFIX, **pool)
        # Counts by Redis' own clock; the moving window would count by those of the gateways, which differ.
        self.rates = SlidingWindowCounterRateLimiter(counters)
        self.hold = redis.register_script(HOLD)

    async def counted(self, count: Callable[[], Awaitable[Answer]], *, otherwise: Answer) -> Answer:
        """What Redis answers, or `otherwise` while it does not."""
        if time.monotonic() >= self._uncounted_until:
            try:
                return await count()
            except UNREACHABLE as error:
                self._uncounted_until = time.monotonic() + UNCOUNTED_S
                log.warning("limits.not_counted", reason=str(error))
        self._on_uncounted()
        return otherwise


@dataclass
class KeyLimiter:
    """`defaults` hold for keys without limits of their own; an image is in flight for at most `hold_s`.

    `servers` count, by their names. While Redis is away nothing is refused for what it counts, and `on_uncounted`
    is told of each.
    """

    servers: Mapping[str, Redis]
    defaults: KeyLimits
    hold_s: float
    on_uncounted: Callable[[], None]
    _counters: Mapping[str, Counters] = field(init=False)

    def __post_init__(self) -> None:
        self._counters = {name: Counters(redis, self.on_uncounted) for name, redis in self.servers.items()}

    def owner(self, key: Key | None) -> Owner | None:
        """Whose the jobs and datasets made with the key are, and how many it may have."""
        if key is None:
            return None
        jobs = _first(key.limits.jobs_waiting, self.defaults.jobs_waiting)
        return Owner(key.prefix, jobs, _first(key.limits.bytes_stored, self.defaults.bytes_stored))

    async def admit(self, key: Key) -> Sequence[tuple[bytes, bytes]]:
        """Count a request; headers that name the policy. Raises Problem 429, which names it too."""
        most = _first(key.limits.requests_per_second, self.defaults.requests_per_second)
        if not most:
            return ()
        policy = f'"requests";q={most};w=1'
        rate = RateLimitItemPerSecond(most)
        counters = self._counters_of(key)
        if await counters.counted(lambda: counters.rates.hit(rate, key.prefix), otherwise=True):
            return [(b"ratelimit-policy", policy.encode())]
        detail = f"This key may send {most} requests a second, and they are used up; try again in a second."
        headers = {"Retry-After": "1", "RateLimit": '"requests";r=0;t=1', "RateLimit-Policy": policy}
        raise Problem(429, "rate_limited", detail, headers)

    @asynccontextmanager
    async def in_flight(self, key: Key | None, images: int) -> AsyncIterator[None]:
        """Within the block so many images are on their way. Raises Problem 429 where they are too many."""
        most = _first(key.limits.images_in_flight, self.defaults.images_in_flight) if key else 0
        if key is None or not most or not images:
            yield
            return
        where, name = f"{IN_FLIGHT_PREFIX}{key.prefix}", uuid4().hex
        wanted: list[str | int] = [name, images, most, round(self.hold_s * 1e3)]
        counters = self._counters_of(key)
        held = await counters.counted(lambda: counters.hold([where], wanted), otherwise=None)
        if held is not None and held >= 0:
            detail = (
                f"{held} images of this key are on their way and the request has {images}; "
                f"it may have {most} at once. Try again when some are answered."
            )
            raise Problem(429, "too_many_in_flight", detail, {"Retry-After": "1"})
        try:
            yield
        finally:
            if held is not None:
                with suppress(*UNREACHABLE):
                    await counters.redis.zrem(where, *(f"{name}:{number}" for number in range(1, images + 1)))

    async def aclose(self) -> None:
        for redis in self.servers.values():
            await redis.aclose()

    def _counters_of(self, key: Key) -> Counters:
        return self._counters[place(key.prefix, tuple(self._counters))]


def _first(own: int | None, default: int | None) -> int:
    """The limit that holds; 0 is none."""
    return (default or 0) if own is None else own
