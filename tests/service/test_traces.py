"""Traces of the real gateway and a real worker, as a real collector receives them."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.collector import Collector, ReceivedSpan
from support.colours import picture
from support.stack import Stack, running_stack

PATH = "/v1/models/colours/classify"
PNG = {"content-type": "image/png"}
CLIENTS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENTS_SPAN = "00f067aa0ba902b7"
STAGES = ["batch", "classify_batch", "decode", "fetch", "inference", "queue", "wait"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gateway and inference worker that send their traces to the collector."""
    environment = {"FOVEA_TRACES_URL": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running_stack(tmp_path_factory.mktemp("traced"), environment) as service:
        yield service


def classify(stack: Stack, traceparent: str | None = None) -> httpx.Response:
    headers = PNG | ({"traceparent": traceparent} if traceparent else {})
    return httpx.post(stack.url + PATH, content=picture("red"), headers=headers, timeout=20)


def of_trace(spans: Sequence[ReceivedSpan], trace_id: str) -> dict[str, ReceivedSpan]:
    return {span.name: span for span in spans if span.trace_id == trace_id}


def test_a_classification_is_one_trace_from_the_client_through_gateway_and_worker(
    traced: Stack, collector: Collector
) -> None:
    assert classify(traced, f"00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01").status_code == 200
    collector.wait_for(lambda spans: len(of_trace(spans, CLIENTS_TRACE)) == len(STAGES) + 1)
    spans = of_trace(collector.spans, CLIENTS_TRACE)
    request = spans.pop("POST /v1/models/{reference}/classify")
    assert sorted(spans) == STAGES
    parents = {name: span.parent_id for name, span in spans.items()}
    batch, work = spans["batch"], spans["classify_batch"]
    assert request.parent_id == CLIENTS_SPAN
    assert parents == {
        "wait": request.span_id,
        "batch": request.span_id,
        "queue": batch.span_id,
        "classify_batch": batch.span_id,
        "fetch": work.span_id,
        "decode": work.span_id,
        "inference": work.span_id,
    }
    assert {name: span.service for name, span in spans.items() if span.service == "fovea-gateway"}.keys() == {
        "wait",
        "batch",
    }
    assert {span.service for span in spans.values()} == {"fovea-gateway", "fovea-inference"}
    assert spans["inference"].attributes["fovea.provider"] == "CPUExecutionProvider"
    assert not any(span.failed for span in spans.values())
    # Each lies within the one above it, and they follow each other.
    order = [
        request.start,
        spans["wait"].start,
        batch.start,
        work.start,
        spans["fetch"].end,
        spans["decode"].start,
    ]
    assert order == sorted(order)
    assert spans["decode"].end <= spans["inference"].start + 1e-6
    assert spans["inference"].end <= work.end + 1e-3
    # The worker writes down its end when the reply is sent already, perhaps after the gateway has read it.
    assert work.end <= batch.end + 50e-3
    assert batch.end <= request.end + 5e-3


def test_requests_of_one_batch_keep_their_traces_and_are_linked(traced: Stack, collector: Collector) -> None:
    traces = [f"{number:032x}" for number in range(1, 41)]
    with ThreadPoolExecutor(40) as clients:
        answers = list(
            clients.map(lambda trace: classify(traced, f"00-{trace}-{CLIENTS_SPAN}-01").status_code, traces)
        )
    assert answers == [200] * 40

    def arrived(spans: Sequence[ReceivedSpan]) -> bool:
        names = [span.name for span in spans if span.trace_id in traces]
        requests = sum(name.startswith("POST") for name in names)
        batches, works = names.count("batch"), names.count("classify_batch")
        return requests == names.count("wait") == 40 and batches == works > 0

    collector.wait_for(arrived)
    spans = [span for span in collector.spans if span.trace_id in traces]
    batches = {(span.trace_id, span.span_id): span for span in spans if span.name == "batch"}
    requests = {(span.trace_id, span.span_id) for span in spans if span.name.startswith("POST")}
    waits = [span for span in spans if span.name == "wait"]
    assert len(batches) < 40
    assert sum(int(batch.attributes["fovea.images"]) for batch in batches.values()) == 40
    for batch in batches.values():
        members = {(batch.trace_id, batch.parent_id), *batch.links}
        assert members <= requests
        assert len(members) == batch.attributes["fovea.images"]
    for wait in waits:
        (link,) = wait.links
        batch = batches[link]
        assert (wait.trace_id, wait.parent_id) in {(batch.trace_id, batch.parent_id), *batch.links}


def test_a_request_that_the_client_does_not_sample_is_not_traced(traced: Stack, collector: Collector) -> None:
    unsampled, sampled = "a" * 32, "b" * 32
    assert classify(traced, f"00-{unsampled}-{CLIENTS_SPAN}-00").status_code == 200
    assert classify(traced, f"00-{sampled}-{CLIENTS_SPAN}-01").status_code == 200
    collector.wait_for(lambda spans: "inference" in of_trace(spans, sampled))
    assert of_trace(collector.spans, unsampled) == {}


def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(traced: Stack, collector: Collector) -> None:
    assert classify(traced, "not a traceparent").status_code == 200

    def arrived(spans: Sequence[ReceivedSpan]) -> bool:
        roots = [span.trace_id for span in spans if span.name.startswith("POST") and span.parent_id == ""]
        return len(roots) == 1 and "inference" in of_trace(spans, roots[0])

    collector.wait_for(arrived)


def test_a_job_is_in_the_trace_of_the_request_that_made_it(traced: Stack, collector: Collector) -> None:
    trace = "c" * 32
    headers = PNG | {"prefer": "respond-async", "traceparent": f"00-{trace}-{CLIENTS_SPAN}-01"}
    answer = httpx.post(traced.url + PATH, content=picture("red"), headers=headers, timeout=20)
    assert answer.status_code == 202
    collector.wait_for(lambda spans: len(of_trace(spans, trace)) == 3)
    spans = of_trace(collector.spans, trace)
    (request,) = (span for name, span in spans.items() if name.startswith("POST"))
    assert spans["classify"].parent_id == spans["queue"].parent_id == request.span_id
    assert spans["classify"].attributes["fovea.job"] == answer.json()["id"]
    assert not spans["classify"].failed


def test_a_failed_batch_says_why(traced: Stack, collector: Collector) -> None:
    traced.publish("models/broken/1/", model="broken")
    (traced.folder / "blobs" / "models/broken/1/model.onnx").write_bytes(b"no graph")
    trace = "d" * 32
    answer = httpx.post(
        f"{traced.url}/v1/models/broken/classify",
        content=picture("red"),
        headers=PNG | {"traceparent": f"00-{trace}-{CLIENTS_SPAN}-01"},
        timeout=20,
    )
    assert answer.status_code == 503
    collector.wait_for(lambda spans: {"batch", "classify_batch"} <= of_trace(spans, trace).keys())
    spans = of_trace(collector.spans, trace)
    for name in ("batch", "classify_batch"):
        assert spans[name].failed
        assert spans[name].attributes["error.type"] == "artifact_unusable"


def test_the_log_of_a_traced_request_names_the_trace(traced: Stack) -> None:
    trace = "e" * 32
    headers = PNG | {"traceparent": f"00-{trace}-{CLIENTS_SPAN}-01"}
    httpx.post(f"{traced.url}/v1/models/nobody/classify", content=picture("red"), headers=headers)
    traced.wait_until(lambda: f'"trace_id": "{trace}"' in traced.log("gateway"), "the log line", 5)


def test_probes_and_scrapes_are_not_traced(traced: Stack, collector: Collector) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        httpx.get(traced.url + path)
    assert classify(traced, f"00-{'f' * 32}-{CLIENTS_SPAN}-01").status_code == 200
    collector.wait_for(lambda spans: "inference" in of_trace(spans, "f" * 32))
    assert not any(span.name.startswith("GET") for span in collector.spans)


@pytest.mark.slow
def test_without_a_collector_everything_works_and_a_stop_does_not_wait_long(tmp_path: Path) -> None:
    service = Stack(tmp_path, {"FOVEA_TRACES_URL": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "100"})
    try:
        service.start()
        service.publish()
        service.wait_until(lambda: service.workers() == 1, "a worker")
        assert classify(service).status_code == 200
        started = time.monotonic()
        service.stop_process("gateway")
        service.stop_process("inference")
        assert time.monotonic() - started < 15
    finally:
        service.stop()


@pytest.mark.parametrize("module", ["service.main", "workers.inference.main", "workers.training.main"])
def test_what_cannot_work_is_refused_at_the_start(module: str, tmp_path: Path) -> None:
    environment = {"FOVEA_TRACES_URL": "collector:4317", "FOVEA_DATA": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-m", module], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected the OTLP/HTTP address of a collector" in done.stderr


@pytest.mark.parametrize("module", ["service.main", "workers.inference.main", "workers.training.runner"])
def test_what_makes_traces_is_not_loaded_unless_it_is_asked_for(module: str) -> None:
    heavy = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf", "requests")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
