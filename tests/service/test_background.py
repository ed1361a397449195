"""Malformed messages do not end the gateway's background work; what ends it ends the process, with the reason."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from support.colours import picture
from support.stack import Stack

from service.background import FORCED_EXIT_CODE, Background
from workers.contract.queues import HEARTBEAT_PREFIX, REPLY_PREFIX, WORKERS_KEY
from workers.redis_url import connect

PATH = "/v1/models/colours/classify"
HEARTBEATS = (
    b"{}",
    b"5",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"worker": 5, "queues": [], "slots": 1}',
    b'{"worker": "x", "queues": "inference.interactive", "slots": 1}',
    b'{"worker": "x", "queues": [7], "slots": 1}',
    b'{"worker": "x", "queues": ["inference.interactive"], "slots": "many"}',
    b'{"worker": "x", "queues": ["inference.interactive"], "slots": 1, "disk_free_bytes": {}}',
)
REPLIES = (
    b"null",
    b"5",
    b"{}",
    b"{",
    b"\xff",
    b"[" * 100_000,
    b'{"batch": {}, "worker": "x"}',
    b'{"batch": "b", "worker": null}',
    b'{"batch": "b", "worker": "w", "outcomes": 5}',
    b'{"batch": "b", "worker": "w", "outcomes": [null]}',
    b'{"batch": "b", "worker": "w", "outcomes": [{"classes": [{"index": "first", "label": 1}]}]}',
    b'{"batch": "b", "worker": "w", "timings": {"queue_ms": "long"}}',
)


@pytest.fixture
def client(stack: Stack) -> Iterator[redis.Redis]:
    with connect(stack.redis.url) as connected:
        yield connected


def classified(stack: Stack) -> bool:
    headers = {"content-type": "image/png"}
    answer = httpx.post(stack.url + PATH, content=picture("red"), headers=headers, timeout=10)
    return answer.status_code == 200 and answer.json()["predictions"][0]["classes"][0]["label"] == "red"


def malformed(stack: Stack, kind: str) -> float:
    families = text_string_to_metric_families(httpx.get(f"{stack.url}/metrics", timeout=10).text)
    samples = (sample for family in families for sample in family.samples)
    return sum(
        s.value for s in samples if s.name == "fovea_malformed_messages_total" and s.labels == {"kind": kind}
    )


def reply_list(client: redis.Redis) -> str:
    """The gateway's own list, seen where it waits for it."""
    with client.monitor() as monitor:
        for command in monitor.listen():
            words = command["command"].split()
            if words[0] == "BLPOP" and words[1].startswith(REPLY_PREFIX):
                return str(words[1])
    raise AssertionError("unreachable")


def test_malformed_heartbeats_are_counted_once_each_and_the_other_workers_stay_seen(
    stack: Stack, client: redis.Redis
) -> None:
    before = malformed(stack, "heartbeat")
    for number, beat in enumerate(HEARTBEATS):
        client.set(f"{HEARTBEAT_PREFIX}broken-{number}", beat, px=20_000)
        client.sadd(WORKERS_KEY, f"broken-{number}")
    stack.wait_until(lambda: malformed(stack, "heartbeat") == before + len(HEARTBEATS), "every beat to be counted")
    assert stack.workers() == 1
    assert classified(stack)
    # Looked at many times by now, and still counted once.
    assert malformed(stack, "heartbeat") == before + len(HEARTBEATS)
    assert stack.log("gateway").count("heartbeat.malformed") == len(HEARTBEATS)
    # And the gateway still sees who goes and who comes.
    stack.stop_process("inference")
    stack.wait_until(lambda: stack.workers() == 0, "the worker's end to be seen")
    stack.start_process("inference")
    stack.wait_until(lambda: stack.workers() == 1, "the worker to be seen again")


def test_malformed_replies_are_counted_and_the_next_ones_delivered(stack: Stack, client: redis.Redis) -> None:
    before = malformed(stack, "reply")
    listens_at = reply_list(client)
    for reply in REPLIES:
        client.rpush(listens_at, reply)
    assert classified(stack)
    assert malformed(stack, "reply") == before + len(REPLIES)
    assert stack.log("gateway").count("reply.malformed") == len(REPLIES)


def test_a_process_that_cannot_end_in_order_is_ended_by_force() -> None:
    code = "import time; from service.background import end_by_force; end_by_force(after_s=0.2); time.sleep(30)"
    done = subprocess.run([sys.executable, "-c", code], timeout=20)
    assert done.returncode == FORCED_EXIT_CODE


# The real gateway, of which one part does what no part should.
BROKEN = """
import asyncio, sys
from service import main
from service.batcher import Batcher

async def broken(self):
    await asyncio.sleep(0.5)
    {ending}

Batcher.watch_workers = broken
sys.exit(main.main())
"""


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("raise ZeroDivisionError('made by the test')", "ZeroDivisionError: made by the test"),
        ("return", "it returned"),
    ],
)
def test_background_work_that_ends_ends_the_process_with_its_reason(
    stack: Stack, tmp_path: Path, ending: str, reason: str
) -> None:
    environment = {**stack.process_environment(), "FOVEA_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", BROKEN.format(ending=ending)],
        env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    log = done.stdout + done.stderr
    assert f"batcher.watch_workers ended: {reason}" in log
    # The server went down in order, not in the middle of its requests.
    assert "Application shutdown complete" in log


def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.background.CANCELLED_AGAIN_S", 0.05)

    async def deaf_once() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def scenario() -> None:
        background = Background()
        background.start("deaf", deaf_once())
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await background.close()
        assert background.failure is None

    asyncio.run(scenario())


def test_without_tasks_there_is_nothing_to_wait_for() -> None:
    asyncio.run(Background().close())
