"""Clients of the Redis that a URL names: one server, over TCP, TLS or a socket, or whom Sentinels call master.

    redis://:PASSWORD@HOST:6379/0    rediss://HOST:6379/0?ssl_ca_certs=/FILE    unix:///PATH?db=0
    sentinel://:PASSWORD@HOST:26379,HOST:26379/0?master_name=NAME&sentinel_password=...

Where a setting takes several, commas stand between them. Nothing besides knows how a URL is read, and none is ever
shown with its password.
"""

import re
from collections.abc import Sequence
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

REDIS_PORT = 6379
SENTINEL_PORT = 26379
# A comma may be in a password and is among Sentinels; one before a scheme can only be between two URLs.
_BETWEEN_URLS = re.compile(r",(?=\s*(?:,|[A-Za-z][A-Za-z0-9+.-]*://|$))")
# A network that was away leaves connections dead that look alive. Who writes heartbeats, or reads them, has
# to notice that before anybody is missed.
_HEARTBEAT_TIMEOUTS = {"socket_timeout": 2, "socket_connect_timeout": 2, "health_check_interval": 15}
# One that does not answer must not hold up the others.
_SENTINEL_TIMEOUTS = {"socket_timeout": 1, "socket_connect_timeout": 1}
_EXPECTED = "Expected redis://HOST:PORT/0, rediss://..., unix:///PATH, or sentinel://HOST:PORT,HOST:PORT/0?master_name=NAME"
_EXPECTED_EACH = "and each of several URLs begins with its scheme."
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
    """Raises InvalidRedisUrl for what is not the URL of one Redis; connects to nothing."""
    for url in urls:
        connect(url).close()
        kombu_broker(url)


def split(urls: str) -> tuple[str, ...]:
    """The URLs of a list with commas between. Raises InvalidRedisUrl for an item that is none."""
    items = tuple(item.strip() for item in _BETWEEN_URLS.split(urls))
    for number, item in enumerate(items, 1):
        if not item:
            raise InvalidRedisUrl(
                f"URL {number} of {len(items)} in {_shown_all(items)!r} is empty: remove the comma or write it."
            )
        bare = shown(item).partition("?")[0]
        if "," in bare and not item.startswith(("sentinel:", "unix:")):
            after = bare.partition(",")[2]
            raise InvalidRedisUrl(
                f"{after!r} after the comma in {bare!r} is no URL. {_EXPECTED}, {_EXPECTED_EACH}"
            )
    return items


def server_of(url: str) -> tuple[str, int]:
    """Which server a URL means, and the number of the database there; without password and options.

    Two spellings of one host's name are two servers to it. Raises InvalidRedisUrl.
    """
    found = _sentinels(url)
    if found is not None:
        addresses = ",".join(sorted(f"{host}:{port}" for host, port in found.addresses))
        return f"{found.master}@{addresses}", found.database
    with connect(url) as client:
        where = client.connection_pool.connection_kwargs
    if "path" in where:
        return str(where["path"]), int(where.get("db", 0))
    host, port = str(where.get("host", "localhost")).lower(), where.get("port", REDIS_PORT)
    return f"{_bracketed(host)}:{port}", int(where.get("db", 0))


def kombu_broker(url: str) -> tuple[str, dict[str, Any]]:
    """The URL as kombu spells it, and the transport options that go with it. Raises InvalidRedisUrl."""
    _require_one(url)
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


def _shown_all(urls: Sequence[str]) -> str:
    return ",".join(map(shown, urls))


def _require_one(url: str) -> None:
    if len(urls := split(url)) > 1:
        raise InvalidRedisUrl(
            f"{_shown_all(urls)} names {len(urls)} servers where one is expected; "
            "only FOVEA_TRANSIT_URL takes several."
        )


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
    _require_one(url)
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
