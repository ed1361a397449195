"""The gateway's connections to one transit server: what goes there, and the replies that come from there."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from redis import Redis, RedisError, ResponseError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import PythonRespSerializer
from redis.retry import Retry

from service.kept_connection import KeptConnection
from workers.contract.queues import REPLY_PREFIX
from workers.redis_url import UNREACHABLE, connect, connect_async
from workers.transit import AWAY_S, TransitServer

SMALL_VALUE_BYTES = 6000
# A body that comes at the least permitted rate brings a piece of a large image every four minutes.
RECEIVING_MS = 600_000
# How long one request for a reply stays open; below the timeout of the connection that it waits on.
LISTENING_S = 5
# One after the other; every release reads the replies of the one before and after it.
MOST_MALFORMED = 100
# With one server there is nothing else to do than to wait for it. Among several, what waits is sent elsewhere.
_OF_ONE: Mapping[str, Any] = {"socket_timeout": 10, "socket_connect_timeout": 2, "health_check_interval": 15}
_OF_SEVERAL: Mapping[str, Any] = {**_OF_ONE, "socket_timeout": 6, "retry": Retry(NoBackoff(), 1)}
Result = TypeVar("Result")
log = structlog.get_logger()


class TransitAway(Exception):
    """The transit server cannot be reached, or takes nothing."""


def uncopied_values() -> PythonRespSerializer:
    """A packer of Redis commands that leaves values above `SMALL_VALUE_BYTES` where they are.

    hiredis' packer, the default, copies them: with pieces of large images that is their whole size once more.
    """
    return PythonRespSerializer(SMALL_VALUE_BYTES, _encoded)


def _encoded(value: bytes | bytearray | str | int) -> bytes | bytearray:
    return value if isinstance(value, (bytes, bytearray)) else str(value).encode()


def open_lines(servers: Sequence[TransitServer]) -> dict[str, "Line"]:
    """A line to each of the servers, by their names. Connects to nothing yet. Raises InvalidRedisUrl."""
    is_one = len(servers) == 1
    options = _OF_ONE if is_one else _OF_SEVERAL
    # The same on each: where the one that a batch was sent by is away, a worker replies by another.
    reply_to = new_reply_list()
    return {
        server.name: Line(
            server.name,
            server.number,
            connect(server.url, **options, command_packer=uncopied_values()),
            connect_async(server.url, **(options if is_one else {**options, "retry": AsyncRetry(NoBackoff(), 1)})),
            reply_to,
            is_one_of_several=not is_one,
        )
        for server in servers
    }


def new_reply_list() -> str:
    return REPLY_PREFIX + uuid4().hex


@dataclass
class Line:
    """To the server called `name`, number `number` of this gateway's; replies come by the list `reply_to` there.

    Batches and replies go by the event loop. Pieces of large images go by threads, which it has of its own, so
    that a server that does not answer keeps nothing waiting that is for another one. Where it `is_one_of_several`
    nothing new is begun while it is away, so that what waits for its turn need not wait.
    """

    name: str
    number: int
    transit: Redis
    by_loop: AsyncRedis
    reply_to: str
    is_one_of_several: bool = False
    _away_until: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._outgoing = KeptConnection(self.by_loop)
        # A reply may be lost with the connection that it was to come by, which has to be known.
        self._incoming = KeptConnection(self.by_loop, can_repeat=False)
        self._senders = ThreadPoolExecutor(2, thread_name_prefix="send")

    @property
    def is_away(self) -> bool:
        """Whether it did not answer, or took nothing, a moment ago."""
        return time.monotonic() < self._away_until

    def note_away(self) -> None:
        self._away_until = time.monotonic() + AWAY_S

    def start(self, send: Callable[..., Result], *given: Any) -> "asyncio.Future[Result]":
        """Begin to send in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._senders, send, *given)

    async def put(self, images: Mapping[str, bytes | None], expires_ms: int) -> None:
        """Images by their keys; None for one that is there, which goes on being kept. Raises TransitAway."""
        if None not in images.values():
            self._require_there()
        if not images:
            return
        try:
            await self._outgoing.execute(
                *(
                    ("PEXPIRE", key, expires_ms) if image is None else ("SET", key, image, "PX", expires_ms)
                    for key, image in images.items()
                )
            )
        except (RedisError, OSError) as error:
            self.note_away()
            raise TransitAway(str(error)) from error

    def append(self, key: str, data: bytes | bytearray, size: int, keep: Sequence[str]) -> None:
        """Add to an image, which has `size` bytes then; none of `keep` expires. Raises TransitAway."""
        self._require_there()
        try:
            with self.transit.pipeline(transaction=False) as pipe:
                pipe.append(key, data)
                for other in keep:
                    pipe.pexpire(other, RECEIVING_MS)
                length, *_ = pipe.execute()
        except (RedisError, OSError) as error:
            self.note_away()
            raise TransitAway(str(error)) from error
        if length != size:
            raise TransitAway(f"{key} has {length} bytes, not {size}: a part of it was lost.")

    def fetch(self, key: str, size: int) -> bytes:
        """Raises TransitAway, also when the image is gone."""
        try:
            data = self.transit.get(key)
        except (RedisError, OSError) as error:
            raise TransitAway(str(error)) from error
        if not isinstance(data, bytes) or len(data) != size:
            raise TransitAway(f"{key} is gone.")
        return data

    def _require_there(self) -> None:
        if self.is_one_of_several and self.is_away:
            raise TransitAway("It was away a moment ago.")

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget images, as far as they are there. While Redis is away nothing happens: they expire."""
        with suppress(RedisError, OSError):
            await self.start(self.transit.unlink, *keys)

    async def listen(self, on_reply: Callable[[bytes | str], bool], on_break: Callable[[str], None]) -> None:
        """Hand every reply to `on_reply`, which says whether it is one, until cancelled; survives Redis' absence.

        `on_break` is told why replies may be missing.
        """
        malformed = 0
        while True:
            try:
                [popped] = await self._incoming.execute(("BLPOP", self.reply_to, LISTENING_S))
            except UNREACHABLE as error:
                if isinstance(error, ResponseError):
                    await self._move()
                self.note_away()
                on_break(str(error))
                await asyncio.sleep(0.2)
                continue
            if popped and on_reply(popped[1]):
                malformed = 0
            elif popped:
                malformed += 1
            if malformed > MOST_MALFORMED:
                malformed = 0
                await self._move()
                on_break("replies could not be told from other values")

    async def _move(self) -> None:
        """Have replies sent to another list, for what lies in this one is not ours; or it is no list."""
        left, self.reply_to = self.reply_to, new_reply_list()
        log.error("transit.foreign_value", key=left)
        with suppress(*UNREACHABLE):
            await self.by_loop.unlink(left)

    async def aclose(self) -> None:
        await self.by_loop.aclose()

    def close(self) -> None:
        self._senders.shutdown(wait=False, cancel_futures=True)
