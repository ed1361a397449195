"""A job that is watched, against a real gateway: the test is the worker that holds it."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.faulty import Reply, faulty, problem
from support.stack import Stack
from support.waited import Connect

from fovea_client import JobFailed, StillRunning, TooMany
from storage.database import open_database
from storage.job_ledger import Attempt, JobLedger

LENET = {"model": "m", "dataset": "builtin:digits", "architecture": "lenet5", "weights": "none"}


@pytest.fixture
def ledger(stack: Stack) -> Iterator[JobLedger]:
    database = open_database(stack.database_url)
    yield JobLedger(database)
    database.close()


def taken(fovea: Any, ledger: JobLedger) -> tuple[Any, Attempt]:
    """A fine-tune that this test holds, as a worker would."""
    job = fovea.finetune(**LENET)
    attempt = ledger.take(job.id, "a-test", lease_s=300)
    assert attempt is not None
    return job, attempt


def soon(*steps: Any, every_s: float = 0.4) -> None:
    """Does the steps while the test waits."""

    def work() -> None:
        for step in steps:
            time.sleep(every_s)
            step()

    threading.Thread(target=work, daemon=True).start()


def test_it_is_waited_for_and_each_change_is_told(fovea: Any, ledger: JobLedger) -> None:
    job, attempt = taken(fovea, ledger)
    soon(
        lambda: ledger.report_progress(attempt, {"phase": "training", "epoch": 1, "epochs": 2}),
        lambda: ledger.report_progress(attempt, {"phase": "training", "epoch": 2, "epochs": 2}),
        lambda: ledger.succeed(attempt, {"model": "m", "version": 3}),
    )
    told: list[Any] = []
    done = job.wait(progress=told.append, timeout_s=60)
    assert (done.state, done.reference) == ("succeeded", "m:3")
    assert [one.state for one in told][-1] == "succeeded"
    assert {1, 2} <= {one.progress.get("epoch") for one in told}
    assert told[0].state == "running"
    # The job that was waited for is as it was: what is frozen does not change under anybody's hands.
    assert job.state == "queued"
    assert job.refresh().is_over


def test_a_failure_is_raised_with_its_code(fovea: Any, ledger: JobLedger) -> None:
    job, attempt = taken(fovea, ledger)
    soon(lambda: ledger.fail(attempt, "export_mismatch", "logits differ by 0.2", retry=False))
    with pytest.raises(JobFailed) as failure:
        job.wait(timeout_s=60)
    assert (failure.value.code, failure.value.detail) == ("export_mismatch", "logits differ by 0.2")
    assert str(failure.value) == f"job {job.id} failed: logits differ by 0.2 (export_mismatch)"
    assert failure.value.job.state == "failed"


def test_waiting_has_an_end_if_that_is_wanted(fovea: Any, ledger: JobLedger) -> None:
    job, attempt = taken(fovea, ledger)
    began = time.monotonic()
    with pytest.raises(StillRunning, match="still running after"):
        job.wait(timeout_s=1.5)
    assert time.monotonic() - began < 10
    ledger.succeed(attempt, {})


def test_events_come_once_each_and_from_where_one_left_off(fovea: Any, ledger: JobLedger) -> None:
    job, attempt = taken(fovea, ledger)
    for epoch in range(1, 4):
        ledger.report_progress(attempt, {"epoch": epoch})
    early = job.events()
    seen = [next(early) for _ in range(3)]
    early.close()
    soon(lambda: ledger.succeed(attempt, {}))
    later = list(job.events(after=seen[-1].id))
    together = [*seen, *later]
    assert [event.id for event in together] == [event.id for event in ledger.events(job.id)]
    assert (together[-1].kind, together[-1].data["state"]) == ("state", "succeeded")
    assert [event.data["epoch"] for event in together if event.kind == "progress"] == [1, 2, 3]
    assert together[0].at.tzinfo is not None
    assert list(job.events(after=together[-1].id)) == []


def test_a_stream_that_breaks_goes_on_after_the_last_event(connect: Connect) -> None:
    def event(number: int, kind: str, data: str) -> bytes:
        return f'id: {number}\nevent: {kind}\nretry: 10\ndata: {{"at":"2026-11-26T00:00:00Z",{data}}}\n\n'.encode()

    stream = {"Content-Type": "text/event-stream"}
    job = {"id": "job_1", "kind": "finetune", "state": "running"}
    begin = event(1, "state", '"state":"running"') + event(2, "progress", '"epoch":1')
    rest = event(3, "state", '"state":"succeeded"')
    replies = (
        Reply(content=job),
        Reply(content=begin + b"id: 3\ndata: half an ev", headers=stream, breaks_off=True),
        Reply(content=b": ping\n\n", headers=stream),
        Reply(content=job),
        problem(503, "stopping", Retry_After="0"),
        Reply(content=rest, headers=stream),
    )
    with faulty(*replies) as server:
        found = list(connect(server.url).jobs.get("job_1").events())
    assert [(event.id, event.kind) for event in found] == [(1, "state"), (2, "progress"), (3, "state")]
    streams = [asked for asked in server.asked if asked.path.endswith("/events")]
    assert [asked.headers.get("Last-Event-ID") for asked in streams] == [None, "2", "2", "2"]


def test_where_there_are_no_events_it_is_asked_for(connect: Connect) -> None:
    """A proxy that knows no streams, then more streams than the server has room for."""
    running, done = ({"id": "job_1", "kind": "finetune", "state": state} for state in ("running", "succeeded"))
    page = Reply(content=b"<html>", headers={"Content-Type": "text/html"})
    full = problem(429, "too_many_event_streams", Retry_After="60")
    with faulty(*(Reply(content=running),) * 2, page, Reply(content=running), full, Reply(content=done)) as server:
        job = connect(server.url).jobs.get("job_1")
        assert [seen.state for seen in job.follow(poll_s=0.05)] == ["running", "succeeded"]
    with faulty(Reply(content=running), full) as server, pytest.raises(TooMany):
        list(connect(server.url, patience_s=0).jobs.get("job_1").events())


def test_a_cancelled_one_keeps_what_was_asked_to_be_kept(fovea: Any, ledger: JobLedger) -> None:
    job, attempt = taken(fovea, ledger)
    assert job.cancel("keep_best").on_cancel == "keep_best"
    assert job.cancel().on_cancel == "keep_best"
    assert job.cancel(on_cancel="discard").on_cancel == "discard"
    ledger.succeed(attempt, {})


@pytest.mark.slow
def test_watching_survives_a_restart_of_the_gateway(
    stack: Stack, connect: Connect, fovea: Any, ledger: JobLedger
) -> None:
    job, attempt = taken(fovea, ledger)
    restarted = threading.Event()

    def restart() -> None:
        stack.stop_process("gateway")
        stack.start_process("gateway")
        stack.wait_until(stack.alive, "the gateway to answer again")
        ledger.report_progress(attempt, {"epoch": 7})
        ledger.succeed(attempt, {"version": 1, "model": "m"})
        restarted.set()

    threading.Timer(1.0, restart).start()
    assert job.wait(timeout_s=100).reference == "m:1"
    assert restarted.wait(30)
    assert 7 in {event.data.get("epoch") for event in job.events()}
