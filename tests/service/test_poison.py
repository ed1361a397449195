"""Images that end the process which decodes them: one worker is the price, and none of those beside it pays."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.colours import picture
from support.poison import deadly_decoder, poison
from support.stack import Stack
from support.world import archive_of

PATH = "/v1/models/colours/classify"
PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("poison")
    stack = Stack(
        folder,
        {
            **deadly_decoder(folder / "decoder"),
            "FOVEA_LEASE_S": "1.5",
            "FOVEA_RECONCILE_INTERVAL_S": "0.3",
            "FOVEA_REQUEUE_AFTER_S": "1",
        },
    )
    try:
        stack.start()
        stack.publish()
        stack.wait_until(lambda: works(stack), "a classification")
        yield stack
    finally:
        stack.stop()


def classify(stack: Stack, *images: bytes, **headers: str) -> httpx.Response:
    if len(images) == 1:
        return httpx.post(stack.url + PATH, content=images[0], headers={**PNG, **headers}, timeout=60)
    files = [("file", (f"{number}.png", image, "image/png")) for number, image in enumerate(images)]
    return httpx.post(stack.url + PATH, files=files, headers=headers, timeout=60)


def works(stack: Stack) -> bool:
    return classify(stack, picture("green")).status_code == 200


def outcomes(answer: httpx.Response) -> list[str]:
    """The best label of each image, or its error's code."""
    predictions = answer.json()["predictions"]
    return [each["error"]["code"] if each["error"] else each["classes"][0]["label"] for each in predictions]


def ends(process: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    assert process.wait(30) == -how


def finished(stack: Stack, job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def is_over() -> bool:
        found.update(httpx.get(f"{stack.url}/v1/jobs/{job['id']}", timeout=10).json())
        return found["state"] not in ("queued", "running")

    stack.wait_until(is_over, "the job to end")
    return found


def test_an_image_that_ends_its_worker_ends_no_second_one_and_its_neighbours_are_answered(service: Stack) -> None:
    deadly = poison(signal.SIGSEGV)
    together = (picture("red", noise=1), deadly, picture("blue", noise=2))
    first = service.processes.pop("inference")
    killed = classify(service, *together)
    assert killed.status_code == 503, killed.text
    assert killed.json()["code"] == "no_worker"
    ends(first, signal.SIGSEGV)

    service.start_process("inference")
    service.wait_until(lambda: works(service), "the next worker")
    assert outcomes(classify(service, *together)) == ["red", "image_quarantined", "blue"]
    alone = classify(service, deadly)
    assert (alone.status_code, alone.json()["code"]) == (422, "image_quarantined")
    assert "SIGSEGV" in alone.json()["detail"]
    # The neighbours are not suspected any more: nothing was started to decode them.
    assert classify(service, together[0]).status_code == 200
    assert service.processes["inference"].poll() is None
    assert "quarantine.convicted" in service.log("inference")


@pytest.mark.slow
def test_with_a_second_worker_the_images_that_the_first_one_had_in_hand_are_answered(service: Stack) -> None:
    with (service.folder / "second.log").open("ab") as log:
        second = subprocess.Popen(
            [sys.executable, "-m", "workers.inference.main"],
            env=service.process_environment(),
            stdout=log,
            stderr=log,
        )
    try:
        service.wait_until(lambda: service.workers() == 2, "the second worker")
        workers = [second, service.processes.pop("inference")]
        answer = classify(service, picture("red", noise=3), poison(signal.SIGSEGV, 2), picture("blue", noise=4))
        assert answer.status_code == 200, answer.text
        assert outcomes(answer) == ["red", "image_quarantined", "blue"]
        assert sorted(worker.poll() is None for worker in workers) == [False, True]
        survivor = next(worker for worker in workers if worker.poll() is None)
        assert outcomes(classify(service, *[poison(signal.SIGSEGV, 2)] * 2)) == ["image_quarantined"] * 2
        survivor.terminate()
        assert survivor.wait(20) == 0
    finally:
        second.kill()
        second.wait()
        service.start_process("inference")
        service.wait_until(lambda: works(service), "a worker")


def test_a_file_of_a_dataset_that_ends_its_decoder_is_its_fault_and_no_workers_end(service: Stack) -> None:
    files = {f"{colour}/{n}.png": picture(colour, noise=n + 1) for colour in ("red", "blue") for n in range(3)}
    archive = archive_of({**files, "red/deadly.png": poison(), "blue/murderous.png": poison(signal.SIGKILL)})
    accepted = httpx.post(
        f"{service.url}/v1/datasets?name=deadly",
        content=archive,
        headers={"content-type": "application/zip"},
        timeout=30,
    )
    job = finished(service, accepted.json()["job"])
    assert job["state"] == "succeeded", job
    report = httpx.get(f"{service.url}/v1/datasets/{job['result']['dataset']}/report", timeout=10).json()
    told = {fault["file"]: fault["reason"] for fault in report["faults"] if fault["code"] == "unreadable"}
    assert told.keys() == {"red/deadly.png", "blue/murderous.png"}
    assert "SIGSEGV" in told["red/deadly.png"]
    assert "SIGKILL" in told["blue/murderous.png"] or "out of memory" in told["blue/murderous.png"]
    assert service.processes["inference"].poll() is None


@pytest.mark.slow
def test_a_classify_job_that_ended_its_process_ends_no_second_one_and_says_which_image_it_was(
    service: Stack,
) -> None:
    accepted = classify(service, picture("red", noise=5), poison(number=3), prefer="respond-async")
    job = finished(service, accepted.json())
    assert job["state"] == "succeeded", job
    red, deadly = job["result"]["predictions"]
    assert red["classes"][0]["label"] == "red"
    assert deadly["error"]["code"] == "image_quarantined"
    assert service.processes["inference"].poll() is None
    assert service.log("inference").count('"bulk.died"') == 1


@pytest.mark.slow
def test_a_foreign_hand_and_foreign_suspicions_stop_nobody(service: Stack, tmp_path: Path) -> None:
    """Values that somebody else left under our names, of a wrong type or none of our messages."""
    import redis

    with redis.Redis.from_url(service.redis.url) as transit:
        worker = next(iter(transit.smembers("fovea:workers"))).decode()
        transit.set(f"fovea:hand:{worker}", "x")
        transit.set("fovea:suspects", b"\xff\xfe")
        transit.hset("fovea:hand:gone@nowhere:1:abc", mapping={"a": "null", "b": b"\xff", "c": "[]"})
        assert works(service)
        transit.zadd("fovea:suspects", {"image:" + "0" * 64: 4e9})
        assert works(service)
        service.stop_process("inference")
        transit.set(f"fovea:hand:{worker}", "x")
        service.start_process("inference")
        service.wait_until(lambda: works(service), "the next worker")
