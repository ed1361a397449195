"""Bulk work to run beside something else: an ingest, asynchronous and bulk classifications, a fine-tune.

Each is a block: it begins when its work has been taken by a worker and at its end the work is over.
"""

import io
import itertools
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

Goes = Callable[[], bool]
ENDED = ("succeeded", "failed", "cancelled")
START_S = 60.0
END_S = 600.0
# As many as a client may send at once by default; and so many jobs wait that no worker is ever without one.
IMAGES_PER_JOB = 64
JOBS_AT_ONCE = 4


class BulkFailed(Exception):
    """Bulk work did not start, or failed; the text says which."""


def write_archive(path: Path, photographs: Sequence[Path], count: int) -> Path:
    """A zip of `count` photographs in two classes, no two of the same bytes, at quality 75."""
    encoded = [_encoded(photograph) for photograph in photographs]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(count):
            label = "ab"[number % 2]
            # What follows the end of a JPEG is ignored, and another file all the same.
            archive.writestr(f"{label}/{number:06d}.jpg", encoded[number % len(encoded)] + b"%d" % number)
    return path


def fill_images(folder: Path, photographs: Sequence[Path], count: int) -> None:
    """As many files as that, links to copies of the photographs: a disk's cache holds them all."""
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if number < len(photographs):
            path.write_bytes(photographs[number].read_bytes())
        else:
            path.hardlink_to(folder / f"{number % len(photographs):06d}.jpg")


def bulk_rate(client: httpx.Client, model: str, prefix: str) -> float:
    """Images a second of a bulk classification from its beginning to its end. Raises BulkFailed."""
    job = str(_checked(client.post("/v1/classifications", json={"model": model, "prefix": prefix}))["id"])
    _await(client, job, lambda state: state in ENDED, END_S)
    _require(client, job, "succeeded")
    found = _checked(client.get(f"/v1/jobs/{job}"))
    began, ended = (datetime.fromisoformat(found[name]) for name in ("started_at", "finished_at"))
    return float(found["result"]["images"]) / (ended - began).total_seconds()


@contextmanager
def classifying_many(client: httpx.Client, model: str, prefix: str) -> Iterator[Goes]:
    """While a bulk classification of a folder runs. Says whether it still does."""
    job = str(_checked(client.post("/v1/classifications", json={"model": model, "prefix": prefix}))["id"])
    _await(client, job, lambda state: state != "queued", START_S)
    try:
        yield _running(client, job)
    finally:
        if _state(client, job) not in ENDED:
            client.post(f"/v1/jobs/{job}/cancel")
        _await(client, job, lambda state: state in ENDED, END_S)


@contextmanager
def ingesting(client: httpx.Client, archive: Path) -> Iterator[Goes]:
    """While the archive is checked, the upload being over. Says whether the check still runs."""
    with archive.open("rb") as content:
        headers = {"Content-Type": "application/zip", "Content-Length": str(archive.stat().st_size)}
        answer = client.post(
            "/v1/datasets", content=content, headers=headers, params={"name": "bulk"}, timeout=600
        )
    dataset = _checked(answer)
    job = str(dataset["job"]["id"])
    _await(client, job, lambda state: state != "queued", START_S)
    yield _running(client, job)
    _await(client, job, lambda state: state in ENDED, END_S)
    _require(client, job, "succeeded")


@contextmanager
def classifying(client: httpx.Client, model: str, photographs: Sequence[Path]) -> Iterator[Goes]:
    """While asynchronous classify jobs of 64 images wait and run, more of them than the worker has slots."""
    contents = list(itertools.islice(itertools.cycle(photographs), IMAGES_PER_JOB))
    files = [("file", (path.name, path.read_bytes(), "image/jpeg")) for path in contents]
    jobs: list[str] = []
    stop = threading.Event()

    def start() -> None:
        answer = client.post(f"/v1/models/{model}/classify", files=files, headers={"Prefer": "respond-async"})
        jobs.append(str(_checked(answer)["id"]))

    def top_up() -> None:
        while not stop.wait(0.25):
            if sum(_state(client, job) not in ENDED for job in jobs[-JOBS_AT_ONCE:]) < JOBS_AT_ONCE:
                start()

    for _ in range(JOBS_AT_ONCE):
        start()
    _await(client, jobs[0], lambda state: state != "queued", START_S)
    thread = threading.Thread(target=top_up)
    thread.start()
    try:
        yield lambda: True
    finally:
        stop.set()
        thread.join()
        for job in jobs:
            if _state(client, job) not in ENDED:
                client.post(f"/v1/jobs/{job}/cancel")
        for job in jobs:
            _await(client, job, lambda state: state in ENDED, END_S)


@contextmanager
def finetuning(client: httpx.Client) -> Iterator[Goes]:
    """While LeNet-5 learns the built-in digits, for longer than anybody measures."""
    request = {
        "model": "bulk",
        "dataset": "builtin:digits",
        "architecture": "lenet5",
        "weights": "none",
        "promote": "never",
        "variants": "none",
        "recipe": {"preset": "digits", "epochs": 1000, "patience": None},
    }
    job = str(_checked(client.post("/v1/finetunes", json=request))["id"])

    def trains() -> bool:
        return (client.get(f"/v1/jobs/{job}").json().get("progress") or {}).get("phase") == "training"

    _until(trains, START_S, "the fine-tune does not reach its training")
    try:
        yield _running(client, job)
    finally:
        client.post(f"/v1/jobs/{job}/cancel")
        _await(client, job, lambda state: state in ENDED, END_S)


def _encoded(path: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def _running(client: httpx.Client, job: str) -> Goes:
    """Asked by one that may not wait: the answer is of the last look, at most half a second ago."""
    looked_at = [0.0]
    running = [True]

    def goes_on() -> bool:
        if running[0] and time.monotonic() - looked_at[0] > 0.5:
            looked_at[0] = time.monotonic()
            threading.Thread(target=look, daemon=True).start()
        return running[0]

    def look() -> None:
        running[0] = _state(client, job) not in ENDED

    return goes_on


def _state(client: httpx.Client, job: str) -> str:
    return str(_checked(client.get(f"/v1/jobs/{job}"))["state"])


def _await(client: httpx.Client, job: str, holds: Callable[[str], bool], patience_s: float) -> None:
    _until(lambda: holds(_state(client, job)), patience_s, f"the job {job} stays as it is")


def _require(client: httpx.Client, job: str, state: str) -> None:
    found = _checked(client.get(f"/v1/jobs/{job}"))
    if found["state"] != state:
        raise BulkFailed(f"the job {job} is {found['state']}: {found.get('error')}")


def _until(holds: Callable[[], bool], patience_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise BulkFailed(f"{otherwise} for {patience_s:.0f} s")
        time.sleep(0.1)


def _checked(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise BulkFailed(
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
        )
    content: dict[str, Any] = answer.json()
    return content
