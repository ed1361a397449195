"""A gateway that is told to end: what it still answers, what it ends at once, and what it leaves behind."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import Popen

import httpx
import pytest
from support.stack import Stack

from fovea_client import Fovea
from service.draining import QUICK_SIGNALS
from storage.database import open_database
from storage.job_ledger import JobLedger

ARCHIVE = b"PK\x03\x04" + b"not an archive" * 1000
HALF = len(ARCHIVE) // 2


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Stack]:
    """Looks away for long and gives what is in flight little time: the tests end both."""
    stack = Stack(tmp_path, {"FOVEA_DRAIN_S": "60", "FOVEA_CLASSIFY_TIMEOUT_S": "60"})
    try:
        yield stack.start("gateway")
    finally:
        stack.stop()


@contextmanager
def ledger(stack: Stack) -> Iterator[JobLedger]:
    database = open_database(stack.database_url)
    try:
        yield JobLedger(database)
    finally:
        database.close()


def begin_upload(stack: Stack) -> socket.socket:
    """A dataset of which the gateway has the first half."""
    connection = socket.create_connection(("127.0.0.1", stack.port), timeout=20)
    head = f"POST /v1/datasets?name=big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(ARCHIVE)}\r\n\r\n"
    connection.sendall(head.encode() + ARCHIVE[:HALF])
    stack.wait_until(lambda: any((stack.folder / "uploads").rglob("body")), "the upload to begin")
    return connection


def answer_on(connection: socket.socket) -> tuple[int, str, dict[str, object]]:
    """Status, head and body of the one answer that is left on it, whose end is the connection's."""
    received = bytearray()
    while part := connection.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), json.loads(body)


def readiness(stack: Stack) -> str:
    answer = httpx.get(f"{stack.url}/readyz", timeout=5)
    status: str = answer.json()["status"]
    assert (answer.status_code == 200) == (status == "ready")
    return status


def ends(process: "Popen[bytes]", within_s: float) -> bool:
    process.wait(within_s)
    return process.returncode == 0


def test_it_is_not_ready_at_once_answers_until_it_ends_and_leaves_nothing(gateway: Stack) -> None:
    process = gateway.processes["gateway"]
    with (
        httpx.Client(base_url=gateway.url) as client,
        closing(begin_upload(gateway)) as whole,
        closing(begin_upload(gateway)) as half,
    ):
        assert "connection" not in client.get("/livez").headers

        process.send_signal(signal.SIGTERM)
        gateway.wait_until(lambda: readiness(gateway) == "draining", "the gateway to say so", 5)
        # On the connection that was open before, as on a fresh one.
        for _ in range(3):
            still = client.get("/livez")
            assert (still.status_code, still.headers["connection"]) == (200, "close")
        whole.sendall(ARCHIVE[HALF:])
        status, head, body = answer_on(whole)
        assert status == 202, body
        assert "connection: close" in head

        process.send_signal(signal.SIGTERM)
        status, head, body = answer_on(half)
        assert (status, body["code"]) == (503, "stopping")
        assert "retry-after: 1" in head

    assert ends(process, 10)
    assert [path for path in (gateway.folder / "uploads").rglob("*") if path.is_dir()] == []
    with ledger(gateway) as found:
        assert len(found.list(10).items) == 1


@pytest.mark.parametrize("number", QUICK_SIGNALS)
def test_by_a_quick_signal_it_ends_although_somebody_listens(gateway: Stack, number: signal.Signals) -> None:
    with ledger(gateway) as jobs:
        job = jobs.create("finetune", {})
    process = gateway.processes["gateway"]
    with (
        httpx.Client(base_url=gateway.url) as idle,
        httpx.stream("GET", f"{gateway.url}/v1/jobs/{job.id}/events", timeout=20) as events,
    ):
        lines = events.iter_lines()
        assert next(lines)
        idle.get("/livez")
        process.send_signal(number)
        # The stream ends, and is not broken off.
        list(lines)
        assert ends(process, 3)


@pytest.mark.slow
def test_an_event_stream_over_restarts_has_every_event_once(gateway: Stack) -> None:
    gateway.stop_process("gateway", signal.SIGINT)
    gateway.hold_port()
    gateway.start_process("gateway")
    gateway.wait_until(gateway.alive, "the gateway to answer")
    with ledger(gateway) as jobs:
        attempt = jobs.take(jobs.create("finetune", {}).id, "test", 300)
        assert attempt
        job = attempt.job.id
        heard: list[int] = []
        listening = threading.Thread(target=listen, args=(gateway, job, heard), daemon=True)
        listening.start()
        followed: list[str] = []
        following = threading.Thread(target=follow, args=(gateway, job, followed), daemon=True)
        following.start()
        for restart in range(2):
            for step in range(10):
                jobs.report_progress(attempt, {"step": 10 * restart + step})
                time.sleep(0.05)
            last = jobs.events(job)[-1].id
            gateway.wait_until(lambda last=last: last in heard, "what was written to be heard")
            process = gateway.processes["gateway"]
            process.send_signal(signal.SIGTERM)
            jobs.report_progress(attempt, {"step": 100 + restart})
            gateway.start_process("gateway")
            assert ends(process, 10)
        jobs.succeed(attempt, {})
        listening.join(20)
        following.join(20)
        written = [event.id for event in jobs.events(job)]

    assert heard == written
    assert len(written) > 20
    assert followed[-1] == "succeeded"


def listen(stack: Stack, job: str, heard: list[int]) -> None:
    """As a browser does: whenever the stream ends it is asked for again, after the last event that was heard."""
    with httpx.Client(base_url=stack.url, timeout=100) as client:
        ended = False
        while not ended:
            headers = {"Last-Event-ID": str(heard[-1])} if heard else {}
            with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as events:
                for line in events.iter_lines():
                    if line.startswith("id: "):
                        heard.append(int(line.removeprefix("id: ")))
                    ended |= line.startswith("data: ") and '"succeeded"' in line


def follow(stack: Stack, job: str, states: list[str]) -> None:
    """What `fovea jobs watch` shows."""
    with Fovea(stack.url, timeout_s=100, patience_s=0) as client:
        states.extend(found.state for found in client.jobs.get(job).follow())
