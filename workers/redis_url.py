"""Clients of the Redis that a URL names: one server, over TCP, TLS or a socket, or whom Sentinels call master.

    redis://:PASSWORD@HOST:6379/0    rediss://HOST:6379/0?ssl_ca_certs=/FILE    unix:///PATH?db=0
    sentinel://:PASSWORD@HOST:26379,HOST:26379/0?master_name=NAME&sentinel_password=...

Besides them nothing knows how a URL is read, and none of them is ever shown with its password.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

# What a client of Redis raises where its server cannot be reached; RuntimeError is uvloop's, of a connection that
# was torn under a write.
UNREACHABLE = (RedisError, OSError, RuntimeError)

SENTINEL_PORT = 26379
# A network that was away leaves connections dead that look alive. Who writes heartbeats, or reads them, has
# to notice that before anybody is missed.
_HEARTBEAT_TIMEOUTS = {"socket_timeout": 2, "socket_connect_timeout": 2, "health_check_interval": 15}
# One that does not answer must not hold up the others.
_SENTINEL_TIMEOUTS = {"socket_timeout": 1, "socket_connect_timeout": 1}
_EXPECTED = "Expected redis://HOST:PORT/0, rediss://..., unix:///PATH, or sentinel://HOST:PORT,HOST:PORT/0?master_name=NAME"
_SENTINEL_OPTIONS = {"master_name", "sentinel_username", "sentinel_password"}


class InvalidRedisUrl(ValueError):
    """The URL cannot be read; the text says what was expected, and has no password."""


@dataclass(frozen=True)
class _Sentinels:
    """Where the Sentinels are and what they call the master; `credentials` are the master's, others are theirs."""

    addresses: tuple[tuple[str, int], ...]
    master: str
    database: int
    credentials: dict[str, str]
    own_credentials: dict[str, str]


def connect(url: str, **options: Any) -> Redis:
    """A client of the Redis at `url`; connects when it is first used. Raises InvalidRedisUrl."""
    client: Redis = _client(url, Redis, Sentinel, options)
    return client


def connect_async(url: str, **options: Any) -> AsyncRedis:
    """As `connect`, for an event loop: every command of the client is awaited. Raises InvalidRedisUrl."""
    client: AsyncRedis = _client(url, AsyncRedis, AsyncSentinel, options)
    return client


def connect_for_heartbeats(url: str) -> Redis:
    """A client to write or read heartbeats: after two seconds it tries another connection, once."""
    return connect(url, **_HEARTBEAT_TIMEOUTS, retry=Retry(NoBackoff(), 1))


def connect_for_heartbeats_async(url: str) -> AsyncRedis:
    """As `connect_for_heartbeats`, for an event loop."""
    return connect_async(url, **_HEARTBEAT_TIMEOUTS, retry=AsyncRetry(NoBackoff(), 1))


def check(*urls: str) -> None:
    """Raises InvalidRedisUrl; connects to nothing."""
    for url in urls:
        connect(url).close()
        kombu_broker(url)


def kombu_broker(url: str) -> tuple[str, dict[str, Any]]:
    """The URL as kombu spells it, and the transport options that go with it. Raises InvalidRedisUrl."""
    found = _sentinels(url)
    if found is not None:
        user = ":".join(quote(found.credentials.get(name, ""), safe="") for name in ("username", "password"))
        where = ";".join(
            f"sentinel://{user}@{_bracketed(host)}:{port}/{found.database}" for host, port in found.addresses
        )
        return where, {
            "master_name": found.master,
            "sentinel_kwargs": {**_SENTINEL_TIMEOUTS, **found.own_credentials},
        }
    parts = urlsplit(url)
    if parts.scheme == "unix":
        query = parse_qs(parts.query)
        secret = f":{quote(unquote(parts.password), safe='')}@" if parts.password else ""
        return f"redis+socket://{secret}{parts.path}?virtual_host={query.get('db', ['0'])[0]}", {}
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in parse_qs(parts.query):
        # Without an option of TLS kombu would speak plainly to the TLS port.
        return f"{url}{'&' if parts.query else '?'}ssl_cert_reqs=required", {}
    return url, {}


def shown(url: str) -> str:
    """The URL for people: without passwords."""
    bare = re.sub(r"//.*@", "//", url)
    return re.sub(r"(password=)[^&]*", r"\1...", bare)


def _sentinels(url: str) -> _Sentinels | None:
    """None for the URL of a server."""
    if not url.startswith("sentinel://"):
        return None
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := query.keys() - _SENTINEL_OPTIONS:
        raise InvalidRedisUrl(f"{shown(url)} has unknown options: {', '.join(sorted(unknown))}. {_EXPECTED}")
    if "master_name" not in query:
        raise InvalidRedisUrl(f"{shown(url)} does not say which master it means. {_EXPECTED}")
    try:
        addresses = tuple(_address(host) for host in re.split("[,;]", hosts) if host)
        database = int(parts.path.strip("/") or 0)
    except ValueError as error:
        raise InvalidRedisUrl(f"{shown(url)} cannot be read: {error}. {_EXPECTED}") from error
    if not addresses:
        raise InvalidRedisUrl(f"{shown(url)} names no Sentinel. {_EXPECTED}")
    name, _, password = user.partition(":")
    credentials = {"username": unquote(name), "password": unquote(password)}
    own = {"username": query.get("sentinel_username", ""), "password": query.get("sentinel_password", "")}
    return _Sentinels(addresses, query["master_name"], database, _given(credentials), _given(own))


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    return str(parts.hostname), parts.port or SENTINEL_PORT


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _given(credentials: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in credentials.items() if value}


def _client(url: str, redis: Any, sentinel: Any, options: dict[str, Any]) -> Any:
    found = _sentinels(url)
    if found is not None:
        watchers = sentinel(found.addresses, sentinel_kwargs={**_SENTINEL_TIMEOUTS, **found.own_credentials})
        return watchers.master_for(found.master, db=found.database, **found.credentials, **options)
    if not url.startswith("unix:") and "@" in url and "@" not in url.split("://", 1)[-1].partition("/")[0]:
        # Its beginning would be taken for a host and a port, and named as such.
        raise InvalidRedisUrl(
            f"The Redis URL {shown(url)} cannot be read: a / in a password is written %2F. {_EXPECTED}"
        )
    try:
        return redis.from_url(url, **options)
    except ValueError as error:
        raise InvalidRedisUrl(f"The Redis URL {shown(url)} cannot be read: {error}. {_EXPECTED}") from error
