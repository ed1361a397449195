"""Queues, images and heartbeats over Sentinel: the master is killed, and classification goes on by itself."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.colours import picture
from support.sentinel import SentinelledRedis
from support.stack import Stack, running_stack


@pytest.fixture
def sentinels() -> Iterator[SentinelledRedis]:
    watched = SentinelledRedis()
    try:
        yield watched.start()
    finally:
        watched.remove()


@pytest.fixture
def service(tmp_path: Path, sentinels: SentinelledRedis) -> Iterator[Stack]:
    with running_stack(tmp_path, {"FOVEA_BROKER_URL": sentinels.url}) as service:
        yield service


def classified(service: Stack, colour: str) -> bool:
    answer = httpx.post(
        f"{service.url}/v1/models/colours/classify",
        content=picture(colour),
        headers={"content-type": "image/png"},
        timeout=40,
    )
    return answer.status_code == 200 and answer.json()["predictions"][0]["classes"][0]["label"] == colour


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_classification_goes_on_with_the_master_that_the_sentinels_choose(
    service: Stack, sentinels: SentinelledRedis
) -> None:
    assert classified(service, "red")
    first = sentinels.kill_master()
    service.wait_until(lambda: sentinels.master_port() not in (None, first), "the failover", 30)
    healed = service.wait_until(lambda: classified(service, "green"), "a classification", 60)
    print(f"classified again {healed:.1f} s after the failover")

    # The old master comes back, learns that it is a replica, and takes over when the second is lost.
    second = sentinels.master_port()
    sentinels.start_server(first, replica_of=second)
    sentinels._wait(lambda: sentinels._followers(second or 0) == 1, "the old master to follow")
    assert classified(service, "blue")
    told = httpx.get(f"{service.url}/metrics", timeout=10).text
    assert 'fovea_queue_length{queue="inference.bulk"} 0.0' in told
    for role in ("gateway", "inference"):
        log = service.log(role)
        assert not any(secret in log for secret in (sentinels.password, sentinels.sentinel_password, "serv%2Fer"))
