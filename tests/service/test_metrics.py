"""What Prometheus reads of the real service, and what it costs."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send
from support.colours import picture
from support.past import let_pass
from support.paused import paused
from support.stack import Stack

from service.metrics import MOST_MODELS, OTHER_MODELS, GatewayMetrics
from service.middleware import RequestContext
from storage.database import open_database
from storage.job_ledger import JobLedger

PATH = "/v1/models/colours/classify"
PNG = {"content-type": "image/png"}


@pytest.fixture
def lone_stack(tmp_path: Path) -> Iterator[Stack]:
    """A service for one test alone; the test starts what it needs."""
    service = Stack(tmp_path)
    try:
        yield service
    finally:
        service.stop()


def sample(stack: Stack, name: str, **labels: str) -> float | None:
    """The sum of the samples of that name and those labels; None where there is none."""
    answer = httpx.get(f"{stack.url}/metrics", timeout=10)
    assert answer.status_code == 200
    found = [
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


def test_every_part_is_up_and_every_queue_is_empty(stack: Stack) -> None:
    for part in ("database", "broker", "transit"):
        assert sample(stack, "fovea_part_up", part=part) == 1
    for queue in ("inference.interactive", "inference.bulk", "training"):
        assert sample(stack, "fovea_queue_length", queue=queue) == 0
        assert sample(stack, "fovea_queue_age_seconds", queue=queue) == 0
    assert sample(stack, "fovea_worker_slots", queue="inference.interactive")


def test_a_gateway_collects_garbage_once_it_has_started(stack: Stack) -> None:
    before = sample(stack, "python_gc_collections_total", generation="0")
    for _ in range(300):
        httpx.get(f"{stack.url}/v1/models", timeout=10)
    after = sample(stack, "python_gc_collections_total", generation="0")
    assert before is not None
    assert after is not None
    assert after > before


def test_the_free_disk_of_gateway_and_worker_is_told(stack: Stack) -> None:
    free, total = sample(stack, "fovea_disk_free_bytes"), sample(stack, "fovea_disk_total_bytes")
    assert free is not None
    assert total is not None
    assert 0 < free < total
    assert sample(stack, "fovea_worker_disk_free_bytes", queue="inference.bulk") == pytest.approx(free, rel=0.2)
    assert sample(stack, "fovea_worker_disk_free_bytes", queue="training") is None


def test_a_worker_that_starts_again_is_counted(stack: Stack) -> None:
    before = sample(stack, "fovea_worker_starts_total", queue="inference.interactive")
    assert before is not None
    stack.stop_process("inference")
    stack.start_process("inference")
    stack.wait_until(
        lambda: sample(stack, "fovea_worker_starts_total", queue="inference.interactive") == before + 1,
        "the worker's start to be counted",
    )
    assert sample(stack, "fovea_worker_starts_total", queue="training") == 0


def test_a_job_that_waits_has_a_state_and_an_age(lone_stack: Stack) -> None:
    lone_stack.start("gateway")
    database = open_database(lone_stack.database_url)
    ledger = JobLedger(database)
    job = ledger.create("finetune", {})
    ledger.request_cancel(ledger.create("classify", {}).id)
    let_pass(database, 1000)
    age = sample(lone_stack, "fovea_queue_age_seconds", queue="training")
    assert age == pytest.approx(1000, abs=100)
    assert sample(lone_stack, "fovea_queue_age_seconds", queue="inference.bulk") == 0
    assert sample(lone_stack, "fovea_jobs", kind="finetune", state="queued") == 1
    assert sample(lone_stack, "fovea_jobs", kind="classify", state="cancelled") == 1
    # Within the next seconds the answer is remembered: nobody can load the database by scraping.
    ledger.request_cancel(job.id)
    assert sample(lone_stack, "fovea_jobs", kind="finetune", state="queued") == 1
    database.close()


def test_a_batch_that_no_worker_takes_has_an_age(lone_stack: Stack) -> None:
    # A worker that is gone without a word leaves its heartbeat: what is sent now waits in the queue.
    lone_stack.environment = {"FOVEA_HEARTBEAT_TTL_S": "300"}
    lone_stack.start()
    lone_stack.publish()
    lone_stack.wait_until(lambda: lone_stack.workers() == 1, "a worker")
    assert httpx.post(lone_stack.url + PATH, content=picture("red"), headers=PNG).status_code == 200
    lone_stack.processes["inference"].kill()
    lone_stack.processes.pop("inference").wait()
    with pytest.raises(httpx.TimeoutException):
        httpx.post(lone_stack.url + PATH, content=picture("red"), headers=PNG, timeout=1.5)
    age = sample(lone_stack, "fovea_queue_age_seconds", queue="inference.interactive")
    assert sample(lone_stack, "fovea_queue_length", queue="inference.interactive") == 1
    assert age is not None
    assert age > 0.5


def test_what_cannot_be_asked_has_no_figures(lone_stack: Stack) -> None:
    lone_stack.start("gateway")
    lone_stack.redis.stop()
    lone_stack.wait_until(lambda: sample(lone_stack, "fovea_part_up", part="transit") == 0, "Redis to be missed")
    assert sample(lone_stack, "fovea_part_up", part="broker") == 0
    assert sample(lone_stack, "fovea_queue_length") is None
    assert sample(lone_stack, "fovea_queue_age_seconds", queue="inference.interactive") is None
    assert sample(lone_stack, "fovea_part_up", part="database") == 1
    assert sample(lone_stack, "fovea_queue_age_seconds", queue="training") == 0


def test_a_part_that_hangs_holds_up_neither_the_scrape_nor_anybody_else(lone_stack: Stack) -> None:
    lone_stack.start("gateway")
    assert lone_stack.redis.process
    with paused(lone_stack.redis.process), ThreadPoolExecutor(1) as scraper:
        started = time.monotonic()
        scrape = scraper.submit(sample, lone_stack, "fovea_part_up", part="broker")
        time.sleep(0.5)
        asked = time.monotonic()
        assert lone_stack.alive()
        assert time.monotonic() - asked < 1
        assert not scrape.done()
        assert scrape.result() == 0
        assert time.monotonic() - started < 8
    lone_stack.wait_until(
        lambda: sample(lone_stack, "fovea_part_up", part="broker") == 1, "the broker's return", 40
    )


@pytest.mark.parametrize("is_open", [False, True])
def test_metrics_need_a_key_where_others_can_reach_them_unless_they_are_opened(
    lone_stack: Stack, is_open: bool
) -> None:
    lone_stack.environment = {"FOVEA_HOST": "0.0.0.0", "FOVEA_METRICS_OPEN": json.dumps(is_open)}
    lone_stack.redis.start()
    lone_stack.prepare()
    key = lone_stack.make_key("classify")
    lone_stack.start_process("gateway")
    lone_stack.wait_until(lone_stack.alive, "the gateway to answer")
    url = f"{lone_stack.url}/metrics"
    assert httpx.get(url).status_code == (200 if is_open else 401)
    assert httpx.get(url, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert httpx.get(f"{lone_stack.url}/livez").status_code == 200


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        (PATH, b"no image", "not_an_image"),
        (PATH, picture("red")[:60], "image_unreadable"),
        ("/v1/models/nobody/classify", picture("red"), "unknown_model"),
        (f"{PATH}?top_k=0", picture("red"), "invalid_request"),
        ("/v1/nowhere", b"", "not_found"),
    ],
)
def test_each_failed_request_is_counted_once_under_its_code(
    stack: Stack, path: str, content: bytes, code: str
) -> None:
    before = sample(stack, "fovea_failures_total", code=code) or 0
    answer = httpx.post(stack.url + path, content=content, headers=PNG)
    assert answer.json()["code"] == code
    assert sample(stack, "fovea_failures_total", code=code) == before + 1


def test_an_error_of_ours_is_counted_as_one() -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(_message: Message) -> None:
        return None

    async def call() -> None:
        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": []}
        with pytest.raises(ZeroDivisionError):
            await RequestContext(broken, metrics)(scope, receive, send)

    metrics = GatewayMetrics()
    asyncio.run(call())
    text = metrics.exposition().decode()
    assert 'fovea_requests_total{method="GET",route="unmatched",status="500"} 1.0' in text
    assert 'fovea_failures_total{code="internal"} 1.0' in text


def test_however_many_models_there_are_their_series_are_bounded() -> None:
    metrics = GatewayMetrics()
    for number in range(MOST_MODELS + 50):
        metrics.observe_images(f"model-{number}", 2)
    metrics.observe_images("model-0", 1)
    text = metrics.exposition().decode()
    assert text.count("fovea_images_total{") == MOST_MODELS + 1
    assert f'fovea_images_total{{model="{OTHER_MODELS}"}} 100.0' in text
    assert 'fovea_images_total{model="model-0"} 3.0' in text
