"""A real Redis server for a test: on a unix socket in its own folder, stopped and started at will."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from cli.up.redis_server import broker_arguments, find_redis, redis_url, transit_arguments


@dataclass
class RedisServer:
    # Not pytest's folder: a unix socket's path may have 107 characters at most.
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fovea-redis-")))
    process: subprocess.Popen[bytes] | None = None
    # A transit server keeps nothing.
    durable: bool = True

    @property
    def url(self) -> str:
        return redis_url(self.folder / "redis.sock")

    def start(self) -> "RedisServer":
        socket = self.folder / "redis.sock"
        arguments = (
            broker_arguments(find_redis(), socket, self.folder)
            if self.durable
            else transit_arguments(find_redis(), socket, 2**28)
        )
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
                return self
            except redis.RedisError:
                time.sleep(0.02)
        raise TimeoutError(f"Redis did not answer at {self.url}")

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running_transit_servers(count: int) -> Iterator[list[RedisServer]]:
    started = [RedisServer(durable=False).start() for _ in range(count)]
    try:
        yield started
    finally:
        for server in started:
            server.remove()
