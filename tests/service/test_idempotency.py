"""An `Idempotency-Key` makes one job with one message; of a request that is refused nothing is left."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import redis
from support.colours import picture
from support.stack import Stack
from support.world import colours_archive

from workers.celery_app import KEY_PREFIX
from workers.contract.queues import Queue

CLASSIFY = "/v1/models/colours/classify"
HEADERS = {"content-type": "image/png", "prefer": "respond-async"}
# Made once: a zip says when its files were written, and the same key with another body is a conflict.
ARCHIVE = colours_archive(per_class=1)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Without a worker, so that what is sent stays in the queue and what is kept stays among the blobs."""
    service = Stack(tmp_path_factory.mktemp("gateway"))
    try:
        service.start("gateway")
        service.publish()
        yield service
    finally:
        service.stop()


def classify(gateway: Stack, colour: str = "red", key: str | None = None) -> httpx.Response:
    headers = HEADERS if key is None else {**HEADERS, "idempotency-key": key}
    return httpx.post(gateway.url + CLASSIFY, content=picture(colour), headers=headers, timeout=60)


def finetune(gateway: Stack, key: str) -> httpx.Response:
    body = {"model": "m", "dataset": "builtin:digits", "architecture": "lenet5", "weights": "none"}
    return httpx.post(f"{gateway.url}/v1/finetunes", json=body, headers={"idempotency-key": key}, timeout=60)


def publish(gateway: Stack, key: str) -> httpx.Response:
    body = {"architecture": "resnet18", "weights": "imagenet"}
    url = f"{gateway.url}/v1/models/imagenet/versions"
    return httpx.post(url, json=body, headers={"idempotency-key": key}, timeout=60)


def try_variants(gateway: Stack, key: str) -> httpx.Response:
    url = f"{gateway.url}/v1/models/colours/versions/1/variants"
    return httpx.post(url, json={"dataset": "builtin:digits"}, headers={"idempotency-key": key}, timeout=60)


def create_dataset(gateway: Stack, key: str) -> httpx.Response:
    headers = {"content-type": "application/zip", "idempotency-key": key}
    return httpx.post(f"{gateway.url}/v1/datasets?name=mine", content=ARCHIVE, headers=headers, timeout=60)


def job_of(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    body = answer.json()
    return str(body.get("job", body)["id"])


def messages(gateway: Stack, queue: Queue) -> int:
    with redis.Redis.from_url(gateway.redis.url) as client:
        return int(client.llen(KEY_PREFIX + queue.value))


def kept(gateway: Stack) -> list[Path]:
    """The files that the blobs hold for jobs."""
    return sorted(path for path in (gateway.folder / "blobs" / "jobs").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("call", "queue"),
    [
        (lambda gateway, key: classify(gateway, key=key), Queue.BULK),
        (create_dataset, Queue.BULK),
        (finetune, Queue.TRAINING),
        (publish, Queue.TRAINING),
        (try_variants, Queue.TRAINING),
    ],
    ids=["classify", "dataset", "finetune", "publish", "variants"],
)
def test_a_repeated_request_sends_no_second_message(
    gateway: Stack, call: Callable[[Stack, str], httpx.Response], queue: Queue
) -> None:
    sent, files = messages(gateway, queue), len(kept(gateway))
    jobs = {job_of(call(gateway, "same")) for _ in range(3)}
    assert len(jobs) == 1
    assert messages(gateway, queue) == sent + 1
    its_files = len(kept(gateway)) - files
    assert job_of(call(gateway, "other")) not in jobs
    assert messages(gateway, queue) == sent + 2
    assert len(kept(gateway)) == files + 2 * its_files


def test_images_of_a_request_that_is_refused_are_not_kept(gateway: Stack) -> None:
    before = kept(gateway)
    bad = classify(gateway, key="k" * 256)
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_idempotency_key")
    assert kept(gateway) == before
    job_of(classify(gateway, key="used"))
    images = kept(gateway)
    assert len(images) == len(before) + 1
    conflict = classify(gateway, "green", key="used")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    assert kept(gateway) == images
    job_of(classify(gateway, key="used"))
    assert kept(gateway) == images


def test_images_of_a_job_that_could_not_be_made_are_not_kept(gateway: Stack) -> None:
    before = kept(gateway)
    with before_insert(gateway, "SELECT RAISE(ABORT, 'no more jobs')"):
        assert classify(gateway).status_code == 500
    assert kept(gateway) == before


def test_images_are_kept_where_the_job_may_have_been_made_although_nobody_heard_of_it(gateway: Stack) -> None:
    """The commit may have arrived; the clean-up deletes the images if it did not."""
    before = kept(gateway)
    with before_insert(gateway, "SELECT a_function_that_there_is_not()"):
        answer = classify(gateway)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert len(kept(gateway)) == len(before) + 1


@contextmanager
def before_insert(gateway: Stack, statement: str) -> Iterator[None]:
    """Have the database do this, and fail, whenever a job is to be written."""
    with closing(sqlite3.connect(gateway.folder / "fovea.db", isolation_level=None)) as database:
        database.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON jobs BEGIN {statement}; END")
        yield
        database.execute("DROP TRIGGER refuse")
