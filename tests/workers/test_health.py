"""A container's health is its worker's own heartbeat, and nothing else."""

import socket
import subprocess
import sys

import pytest
from redis import Redis
from support.redis import RedisServer

from workers.contract.queues import HEARTBEAT_PREFIX


def probe() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "workers.health"], capture_output=True, text=True, check=False)


@pytest.fixture
def transit(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setenv("FOVEA_TRANSIT_URL", redis_server.url)
    return redis_server


def test_a_worker_is_healthy_until_it_falls_silent(transit: RedisServer) -> None:
    name = f"{HEARTBEAT_PREFIX}inference@{socket.gethostname()}:7:abcdef"
    with Redis.from_url(transit.url) as client:
        client.set(name, "{}", px=600_000)
        assert probe().returncode == 0
        client.pexpire(name, 1)
        silent = probe()
    assert silent.returncode == 1
    assert "no worker of" in silent.stderr


def test_the_heartbeat_of_another_machine_does_not_count(transit: RedisServer) -> None:
    with Redis.from_url(transit.url) as client:
        client.set(f"{HEARTBEAT_PREFIX}inference@not-{socket.gethostname()}:7:abcdef", "{}", px=60_000)
        client.set(f"{HEARTBEAT_PREFIX}inference@{socket.gethostname()}-too:7:abcdef", "{}", px=60_000)

    assert probe().returncode == 1


def test_without_redis_it_is_unhealthy_and_says_why(transit: RedisServer) -> None:
    transit.remove()

    unheard = probe()
    assert unheard.returncode == 1
    assert "cannot be asked for heartbeats" in unheard.stderr
    assert "Traceback" not in unheard.stderr
