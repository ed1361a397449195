"""The transit servers: which there are, and which of them something lies on.

`FOVEA_TRANSIT_URL` names one or several. A batch says on which server its images lie and its reply is awaited.
What is found by its key alone lies where `place` says: by rendezvous hashing, which every process computes alike
from the servers' names, so that a server that is added or taken away moves its own share of the keys and no
other.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from workers.redis_url import InvalidRedisUrl, connect, server_of, shown, split

# How long a server that did not answer is left alone where there are others.
AWAY_S = 1.0
ABSENT = (RedisConnectionError, RedisTimeoutError, OSError)
# With one server there is nothing else to do than to wait for it. Among several, what waits is sent elsewhere.
_OF_ONE: Mapping[str, Any] = {"socket_timeout": 10, "socket_connect_timeout": 3, "health_check_interval": 15}
_OF_SEVERAL: Mapping[str, Any] = {"socket_timeout": 3, "socket_connect_timeout": 2, "health_check_interval": 15}
log = structlog.get_logger()


@dataclass(frozen=True)
class TransitServer:
    """`name` is the same in every process; `number`, for people, is its place in this one's list, from 1."""

    name: str
    number: int
    url: str = field(repr=False)


def transit_servers(urls: str) -> tuple[TransitServer, ...]:
    """The servers of a list of URLs. Raises InvalidRedisUrl, also when a server is in it twice."""
    servers: list[TransitServer] = []
    numbers: dict[str, int] = {}
    for number, url in enumerate(split(urls), 1):
        server, database = server_of(url)
        if server in numbers:
            raise InvalidRedisUrl(
                f"FOVEA_TRANSIT_URL: URLs {numbers[server]} and {number} name the same server, {shown(url)}; "
                "name each once."
            )
        numbers[server] = number
        name = hashlib.sha256(f"{server}/{database}".encode()).hexdigest()[:8]
        servers.append(TransitServer(name, number, url))
    return tuple(servers)


def place(key: str, servers: Sequence[str]) -> str:
    """The one of `servers`, given by their names, that has the key."""
    if len(servers) == 1:
        return servers[0]
    return max(servers, key=lambda name: hashlib.blake2b(f"{name} {key}".encode(), digest_size=8).digest())


class UnknownServer(RedisConnectionError):
    """The message names a server that this process was not told of."""


@dataclass
class Transit:
    """A worker's connections to all, by their names. Of several, one that is away is left alone for a moment."""

    clients: Mapping[str, Redis]
    _away_until: dict[str, float] = field(default_factory=dict, init=False)

    @classmethod
    def open(cls, urls: str) -> "Transit":
        """Connects to nothing yet. Raises InvalidRedisUrl."""
        servers = transit_servers(urls)
        if len(servers) == 1:
            return cls({servers[0].name: connect(servers[0].url, **_OF_ONE)})
        once_more = Retry(NoBackoff(), 1)
        return cls({server.name: connect(server.url, **_OF_SEVERAL, retry=once_more) for server in servers})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.clients)

    @property
    def is_one(self) -> bool:
        return len(self.clients) == 1

    @contextmanager
    def at(self, server: str) -> Iterator[Redis]:
        """The client of that server; where there is one only, it is meant, and by no name the first.

        Raises UnknownServer, and RedisConnectionError at once for one that was away a moment ago.
        """
        name = self._known(server)
        if time.monotonic() < self._away_until.get(name, 0.0):
            raise RedisConnectionError("This transit server was away a moment ago.")
        try:
            yield self.clients[name]
        except ABSENT as error:
            if not self.is_one:
                self._away_until[name] = time.monotonic() + AWAY_S
                log.warning("transit.away", server=self.names.index(name) + 1, reason=str(error))
            raise

    def elsewhere(self, server: str) -> tuple[str, ...]:
        """The others."""
        return tuple(name for name in self.clients if name != server)

    def _known(self, server: str) -> str:
        if server in self.clients:
            return server
        if self.is_one or not server:
            return self.names[0]
        self.require_known(server)
        return server

    def require_known(self, server: str) -> None:
        """Raises UnknownServer for a name that is not in the list, though it has one server only."""
        if not server or server in self.clients:
            return
        raise UnknownServer(
            f"The transit server {server} is not in this process's FOVEA_TRANSIT_URL. "
            "Every process needs the same list, with each server spelt alike."
        )
