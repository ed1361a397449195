"""The gateway that made-up requests are sent to, and what exists there."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.colours import picture
from support.pages import ROOT
from support.stack import Stack
from support.world import colours_archive

# How many requests are made up for each call; `make fuzz` makes more.
EXAMPLES = int(os.environ.get("FOVEA_FUZZ_EXAMPLES", "15"))


@dataclass(frozen=True)
class Target:
    """`known` has what exists by the name of the parameter that names it; no answer may hold one of `secrets`."""

    stack: Stack
    key: str
    known: dict[str, list[Any]]

    @property
    def secrets(self) -> list[str]:
        return [str(self.stack.folder), str(ROOT), self.stack.redis.url]

    def check_health(self) -> None:
        assert self.stack.alive()
        for role, process in self.stack.processes.items():
            assert process.poll() is None, self.stack.log(role)[-3000:]
        assert "Traceback" not in self.stack.log("gateway")
        assert '"level": "error"' not in self.stack.log("gateway")


@pytest.fixture(scope="session")
def seed() -> str:
    """Printed, so that a run can be repeated."""
    chosen = os.environ.get("FOVEA_FUZZ_SEED") or str(secrets.randbelow(2**32))
    print(f"\nFOVEA_FUZZ_SEED={chosen} FOVEA_FUZZ_EXAMPLES={EXAMPLES}")
    return chosen


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """With keys, so that it is tried without them too."""
    # Nobody trains here, so that the events of a fine-tune that was asked for have no end.
    service = Stack(
        tmp_path_factory.mktemp("fuzz"),
        {"FOVEA_HOST": "0.0.0.0", "FOVEA_EVENT_STREAM_S": "1", "FOVEA_WEBHOOK_ALLOW": "127.0.0.2"},
    )
    service.redis.start()
    service.prepare()
    key = f"Bearer {service.make_key('admin')}"
    try:
        for role in ("gateway", "inference"):
            service.start_process(role)
        service.wait_until(service.alive, "the gateway")
        for number in (1, 2, 3):
            service.publish(f"models/colours/{number}/")
        service.wait_until(lambda: service.workers() == 1, "a worker")
        yield Target(service, key, what_exists(service, key))
    finally:
        service.stop()


def what_exists(service: Stack, key: str) -> dict[str, list[Any]]:
    """Of each kind that a path names, one: a dataset that is ready, and jobs that have ended."""
    with httpx.Client(base_url=service.url, headers={"authorization": key}, timeout=30) as client:
        dataset = client.post("/v1/datasets?name=colours", content=colours_archive()).json()
        png = {"content-type": "image/png", "prefer": "respond-async"}
        job = client.post("/v1/models/colours/classify", content=picture("red"), headers=png).json()["id"]
        images = client.post("/v1/datasets?name=images&labels=none", content=colours_archive()).json()
        service.wait_until(
            lambda: (
                all(client.get(f"/v1/datasets/{d['id']}").json()["state"] == "ready" for d in (dataset, images))
                and client.get(f"/v1/jobs/{job}").json()["state"] == "succeeded"
            ),
            "the datasets and the job",
        )
        asked = {"model": "colours", "dataset": images["id"]}
        many = client.post("/v1/classifications", json=asked).json()["id"]
        asked = {"models": ["colours:1", "colours:2"], "dataset": dataset["id"]}
        evaluation = client.post("/v1/evaluations", json=asked).json()["id"]
        for other in (many, evaluation):
            service.wait_until(
                lambda other=other: client.get(f"/v1/jobs/{other}").json()["state"] == "succeeded", "another job"
            )
        webhook = client.post("/v1/webhooks", json={"url": "https://127.0.0.2:9/"}).json()["id"]
    thumbnails = (service.folder / "blobs").rglob("thumbnails/*.webp")
    return {
        "name": ["colours"],
        "webhook_id": [webhook],
        "reference": ["colours", "colours:2", "colours@production"],
        "alias": ["production"],
        "number": [1, 2, 3],
        "dataset_id": [dataset["id"], images["id"]],
        "job_id": [dataset["job"]["id"], job, many, evaluation],
        "sha256": [path.stem for path in thumbnails],
    }
