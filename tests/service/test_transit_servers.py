"""A service with several transit servers: the load is spread, and one that is away costs its own requests only."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
import redis
from support.colours import LABELS, picture
from support.load import Load, Reply, send_all
from support.proxy import Proxy
from support.redis import RedisServer
from support.stack import Stack, running_stack

from service.intake import PIECE_BYTES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PATH = "/v1/models/colours/classify"
PNG = {"content-type": "image/png"}
AT_ONCE = 16
PICTURES = [(colour, picture(colour, noise=n)) for n in range(1, 9) for colour in LABELS]
# Its file is larger than what a gateway holds; the decoder stops at the picture's end.
LARGE = picture("blue") + Random(0).randbytes(PIECE_BYTES + 1)


class Servers:
    """Three transit servers; the way to the third leads through `proxy`."""

    def __init__(self) -> None:
        self.all = [RedisServer(durable=False).start() for _ in range(3)]
        self.proxy = Proxy(self.all[2].folder / "redis.sock").start()
        self.urls = [self.all[0].url, self.all[1].url, f"redis://127.0.0.1:{self.proxy.port}/0"]

    def remove(self) -> None:
        self.proxy.stop()
        for server in self.all:
            server.remove()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[Stack]:
    with running_stack(
        tmp_path_factory.mktemp("transit"), {"FOVEA_TRANSIT_URL": ",".join(servers.urls)}
    ) as service:
        yield service


@pytest.fixture
def service(started: Stack) -> Stack:
    """With all three servers in use."""
    started.wait_until(lambda: answering(started) == [True, True, True], "every server to answer")
    started.wait_until(lambda: all(sent(started, 30).values()), "every server to be used")
    return started


def answering(service: Stack) -> list[bool]:
    told = httpx.get(f"{service.url}/readyz", timeout=10).json()["transit"]
    return [server["ok"] for server in told["servers"]]


def batches(service: Stack) -> Counter[str]:
    """How many have gone by each server so far, by its number."""
    text = httpx.get(f"{service.url}/metrics", timeout=10).text
    found = re.findall(r'^fovea_transit_batches_total\{server="(\d)"\} (\S+)$', text, re.MULTILINE)
    return Counter({number: int(float(count)) for number, count in found})


def sent(service: Stack, requests: int) -> dict[str, int]:
    """By which servers so many requests, one after another, have gone."""
    before = batches(service)
    for reply in send_all(service.port, PATH, [picture("red")], requests=requests, at_once=1):
        assert reply.status in (200, 503)
    after = batches(service)
    return {number: after[number] - before[number] for number in ("1", "2", "3")}


def is_right(reply: Reply) -> bool:
    (prediction,) = reply.body["predictions"]
    return bool(prediction["classes"][0]["label"] == PICTURES[reply.request % len(PICTURES)][0])


def large(service: Stack) -> httpx.Response:
    return httpx.post(service.url + PATH, content=LARGE, headers=PNG, timeout=60)


def test_the_load_is_spread_evenly_and_each_server_is_named(service: Stack, servers: Servers) -> None:
    counted = sent(service, 300)
    assert sum(counted.values()) == 300
    assert all(60 < count < 140 for count in counted.values()), counted
    assert httpx.get(f"{service.url}/readyz", timeout=10).json()["transit"] == {
        "ok": True,
        "servers": [{"server": number, "ok": True} for number in (1, 2, 3)],
    }
    text = httpx.get(f"{service.url}/metrics", timeout=10).text
    assert all(f'fovea_transit_up{{server="{number}"}} 1.0' in text for number in (1, 2, 3))
    # A worker gives its sign of life on each; nothing of an image is left.
    for server in servers.all:
        with redis.Redis.from_url(server.url) as client:
            assert {key.split(b":")[1] for key in client.keys("*")} <= {b"worker", b"workers", b"late"}


def test_large_images_are_spread_and_classified(service: Stack, servers: Servers) -> None:
    before = [calls(server, "append") for server in servers.all]
    for _ in range(40):
        answer = large(service)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["classes"][0]["label"] == "blue"
    used = [calls(server, "append") - count for server, count in zip(servers.all, before, strict=True)]
    assert all(used), used


def calls(server: RedisServer, command: str) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_a_server_that_is_killed_under_load_costs_its_own_requests_and_is_used_again(
    service: Stack, servers: Servers
) -> None:
    with Load(service.port, PATH, [data for _, data in PICTURES], at_once=AT_ONCE) as load:

        def more(replies: int) -> None:
            wanted = len(load.replies) + replies
            service.wait_until(lambda: len(load.replies) > wanted, "the load")

        more(100)
        servers.all[0].kill()
        more(200)
        told = httpx.get(f"{service.url}/readyz", timeout=10).json()["transit"]
        assert (told["ok"], [each["ok"] for each in told["servers"]]) == (True, [False, True, True])
        assert told["reason"] == "Of 3 servers cannot be reached: 1."
        begun = len(load.replies)
        more(200)
        # It is known to be away, and nobody is sent there.
        assert {reply.status for reply in load.replies[begun:]} == {200}
        servers.all[0].start()
        before = batches(service)["1"]
        service.wait_until(lambda: batches(service)["1"] > before + 20, "the server to be used again")
    assert len(load.replies) == load.sent
    failed = [reply for reply in load.replies if reply.status != 200]
    print(f"{len(failed)} of {len(load.replies)} failed: {Counter(reply.body['code'] for reply in failed)}")
    assert len(failed) <= AT_ONCE
    assert {reply.status for reply in failed} <= {503}
    assert all(is_right(reply) for reply in load.replies if reply.status == 200)


def test_a_large_image_that_lies_on_a_server_that_is_gone_is_a_503_that_says_when_to_come_again(
    service: Stack, servers: Servers
) -> None:
    """It is on that server alone. Whoever sends it again is served, for new images go elsewhere."""
    halves = [LARGE[: len(LARGE) - 10], LARGE[-10:]]
    before = [calls(server, "append") for server in servers.all]

    def body() -> Iterator[bytes]:
        yield halves[0]
        service.wait_until(lambda: used() is not None, "the image's first piece to be passed on")
        servers.all[used() or 0].kill()
        yield halves[1]

    def used() -> int | None:
        for number, server in enumerate(servers.all):
            if server.process and calls(server, "append") > before[number]:
                return number
        return None

    try:
        answer = httpx.post(service.url + PATH, content=body(), headers=PNG, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert large(service).status_code == 200
    finally:
        for server in servers.all:
            if server.process is None:
                server.start()


def test_a_server_that_says_nothing_any_more_holds_up_nobody_else(service: Stack, servers: Servers) -> None:
    """Nothing refuses a connection here: only silence tells that it is away."""
    with Load(service.port, PATH, [data for _, data in PICTURES], at_once=AT_ONCE) as load:
        service.wait_until(lambda: len(load.replies) > 100, "the load")
        servers.proxy.go_dead()
        began, answered = time.monotonic(), len(load.replies)
        service.wait_until(lambda: not answering(service)[2], "the silence to be noticed", 30)
        noticed = time.monotonic() - began
        meanwhile = len(load.replies) - answered
        begun = len(load.replies)
        service.wait_until(lambda: len(load.replies) > begun + 400, "the load to go on")
        servers.proxy.heal()
        before = batches(service)["3"]
        service.wait_until(lambda: batches(service)["3"] > before + 20, "the server to be used again")
    statuses = Counter(reply.status for reply in load.replies)
    print(f"noticed after {noticed:.1f} s, {meanwhile} answered meanwhile, statuses {statuses}")
    assert len(load.replies) == load.sent
    assert set(statuses) <= {200, 503}
    assert statuses[503] <= 2 * AT_ONCE


def test_a_worker_that_was_not_told_of_a_server_keeps_it_from_being_used(service: Stack, servers: Servers) -> None:
    """As while servers are added: gateways have the longer list, and some workers have not been replaced yet."""
    listed = service.environment["FOVEA_TRANSIT_URL"]
    try:
        service.environment["FOVEA_TRANSIT_URL"] = servers.urls[1]
        with Load(service.port, PATH, [data for _, data in PICTURES], at_once=4) as load:
            service.start_process("inference-old")
            service.wait_until(lambda: service.workers() == 2, "the worker of the shorter list")
            service.wait_until(lambda: only(service, "2"), "the servers that it does not know to be left out")
            service.stop_process("inference-old")
            service.wait_until(lambda: service.workers() == 1, "it to be gone")
            service.wait_until(lambda: all(sent(service, 30).values()), "every server to be used again")
    finally:
        service.environment["FOVEA_TRANSIT_URL"] = listed
    assert [reply.body for reply in load.replies if reply.status != 200] == []
    assert all(is_right(reply) for reply in load.replies)


def only(service: Stack, number: str) -> bool:
    used = sent(service, 10)
    return used.pop(number) >= 10 and not any(used.values())


@pytest.mark.parametrize(
    ("role", "variable", "value", "words"),
    [
        ("gateway", "FOVEA_TRANSIT_URL", "redis://:secret@a,,redis://b", "URL 2 of 3"),
        ("inference", "FOVEA_TRANSIT_URL", "redis://:secret@a,http://b", "http://b cannot be read"),
        ("training", "FOVEA_TRANSIT_URL", "redis://:secret@a,redis://a:6379", "URLs 1 and 2 name the same server"),
        ("gateway", "FOVEA_BROKER_URL", "redis://:secret@a,redis://b", "only FOVEA_TRANSIT_URL takes several"),
    ],
)
def test_a_list_that_cannot_be_meant_is_told_and_nothing_starts(
    tmp_path: Path, role: str, variable: str, value: str, words: str
) -> None:
    refused = Stack(tmp_path, {variable: value})
    try:
        refused.prepare()
        refused.start_process(role)
        assert refused.processes.pop(role).wait(60) == 2
        assert words in refused.log(role)
        assert "secret" not in refused.log(role)
    finally:
        refused.stop()
