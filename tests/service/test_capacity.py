"""What a gateway takes at once, and of whom: uploads and event streams, bodies of JSON, connections."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from support.load import post
from support.stack import Stack
from support.world import colours_archive

from storage.database import open_database
from storage.job_ledger import JobLedger


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    limits = {
        "FOVEA_MAX_UPLOADS": "2",
        "FOVEA_MAX_EVENT_STREAMS": "2",
        "FOVEA_EVENT_STREAM_S": "8",
        "FOVEA_MAX_CONNECTIONS_PER_ADDRESS": "20",
        "FOVEA_HEADER_TIMEOUT_S": "1",
    }
    service = Stack(tmp_path_factory.mktemp("limits"), limits)
    try:
        yield service.start("gateway")
    finally:
        service.stop()


def test_more_event_streams_than_the_limit_are_a_429_until_one_ends(service: Stack) -> None:
    database = open_database(service.database_url)
    job = JobLedger(database).create("ingest", {})
    database.close()
    path = f"/v1/jobs/{job.id}/events"
    with httpx.Client(base_url=service.url, timeout=20) as client:
        with client.stream("GET", path) as first, client.stream("GET", path) as second:
            assert (first.status_code, second.status_code) == (200, 200)
            refused = client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_event_streams")
            assert "GET /v1/jobs/{id}" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) > 0
            assert client.get("/v1/jobs/job_none/events").status_code == 404

        def taken() -> bool:
            with client.stream("GET", path) as another:
                return another.status_code == 200

        service.wait_until(taken, "a stream's place", 10)


def test_a_reader_may_leave_a_stream_at_any_moment(service: Stack) -> None:
    database = open_database(service.database_url)
    jobs = JobLedger(database)
    attempt = jobs.take(jobs.create("ingest", {}).id, "test", 300)
    assert attempt
    for step in range(40):
        jobs.report_progress(attempt, {"step": step})
    database.close()
    with httpx.Client(base_url=service.url, timeout=20) as client:
        for _ in range(20):
            with client.stream("GET", f"/v1/jobs/{attempt.job.id}/events") as stream:
                if stream.status_code == 200:
                    next(stream.iter_raw())
                else:
                    # The one before is not noticed to be gone yet.
                    assert stream.status_code == 429
            time.sleep(0.02)
        assert 'fovea_failures_total{code="internal"}' not in client.get("/metrics").text
    assert "request.failed" not in service.log("gateway")


def test_a_stream_has_an_end_and_is_resumed(service: Stack) -> None:
    database = open_database(service.database_url)
    jobs = JobLedger(database)
    attempt = jobs.take(jobs.create("ingest", {}).id, "test", 300)
    assert attempt
    jobs.report_progress(attempt, {"step": 1})
    with httpx.Client(base_url=service.url, timeout=30) as client:
        path = f"/v1/jobs/{attempt.job.id}/events"
        said = client.get(path).text
        assert '"step":1' in said
        jobs.report_progress(attempt, {"step": 2})
        *_, seen = re.findall(r"^id: (\d+)$", said, re.MULTILINE)
        with client.stream("GET", path, headers={"Last-Event-ID": seen}) as resumed:
            assert '"step":2' in next(resumed.iter_text())
    database.close()


def test_more_uploads_than_the_limit_are_a_429_until_one_is_broken_off(service: Stack) -> None:
    archive = colours_archive()
    begun = post("/v1/datasets?name=x", archive, "application/zip")[: -len(archive) // 2]
    path = service.url + "/v1/datasets?name=y"
    uploads = service.folder / "uploads"
    connections = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2)]
    for connection in connections:
        connection.sendall(begun)
    service.wait_until(lambda: len(list(uploads.glob("scratch-*"))) == 2, "the uploads to begin", 10)
    refused = httpx.post(path, content=archive)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
    assert int(refused.headers["retry-after"]) > 0
    for connection in connections:
        connection.close()
    service.wait_until(lambda: httpx.post(path, content=archive).status_code == 202, "an upload's place", 10)
    assert list(uploads.iterdir()) == []


def test_json_of_many_fields_is_refused_before_it_is_parsed(service: Stack) -> None:
    fields = ",".join(f'"{n:x}":1' for n in range(95_000))
    answer = httpx.post(
        f"{service.url}/v1/finetunes", content=f"{{{fields}}}", headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_the_settings_reach_the_connections_and_refusals_the_metrics(service: Stack) -> None:
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=20))
            for _ in range(25)
        ]
        for connection in connections[:20]:
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
        status = sorted(connection.recv(12) for connection in connections)
        assert status == [b"HTTP/1.1 408"] * 20 + [b"HTTP/1.1 503"] * 5
    service.wait_until(service.alive, "the connections to be gone", 10)
    metrics = httpx.get(f"{service.url}/metrics").text
    assert 'fovea_failures_total{code="request_timeout"} 20.0' in metrics
    assert 'fovea_failures_total{code="too_many_connections"} 5.0' in metrics
    assert "connections.refused" in service.log("gateway")
