"""Variants of a version by REST: what is asked for is checked before there is a job, and reports can be read."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.colours import make_colour_artifact, picture
from support.stack import Stack

from models.artifact import read_manifest
from storage.blobs import BlobStore
from storage.database import open_database
from storage.datasets import DatasetRegistry, DatasetState
from storage.registry import Version

GOOD: dict[str, Any] = {"dataset": "ds_colours", "precisions": ["int8"]}
VARIANTS = "/v1/models/colours/versions/1/variants"
REPORT = {"precision": "int8", "passed": True, "reason": None, "images": 60, "accuracy": 1.0}


@pytest.fixture(scope="module", autouse=True)
def datasets(stack: Stack) -> None:
    database = open_database(stack.database_url)
    known = DatasetRegistry(database)
    states = {"ready": DatasetState.READY, "checking": DatasetState.CHECKING, "refused": DatasetState.REFUSED}
    for name, labels, state in (
        ("ds_colours", ("red", "pink"), "ready"),
        ("ds_letters", ("a", "b", "c", "d"), "ready"),
        ("ds_checking", ("red",), "checking"),
        ("ds_refused", ("red",), "refused"),
    ):
        known.add(
            name, dataset_id=name, prefix=f"datasets/{name}", labels=labels, state=states[state], job_id="job_x"
        )
    database.close()


def ask(stack: Stack, body: Any = GOOD, path: str = VARIANTS, **headers: str) -> httpx.Response:
    return httpx.post(f"{stack.url}{path}", json=body, headers=headers, timeout=30)


def test_a_good_request_is_accepted_as_a_queued_job(stack: Stack) -> None:
    answer = ask(stack)
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["kind"], job["state"]) == ("variants", "queued")
    assert job["request"] == {"model": "colours", "version": 1, "dataset": "ds_colours", "precisions": ["int8"]}
    assert ask(stack, {"dataset": "builtin:digits"}).json()["request"]["precisions"] == "auto"


def test_on_a_dataset_that_is_being_checked_it_waits(stack: Stack) -> None:
    job = ask(stack, {**GOOD, "dataset": "ds_checking"}).json()
    assert (job["state"], job["progress"]) == ("queued", {"phase": "waiting for the dataset"})


def test_a_repeated_request_returns_the_same_job(stack: Stack) -> None:
    first, second, other = (ask(stack, **{"idempotency-key": key}).json()["id"] for key in ("a", "a", "b"))
    assert first == second != other


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({}, 422, "invalid_request", "body.dataset"),
        ({**GOOD, "dataset": ""}, 422, "invalid_request", "body.dataset"),
        ({**GOOD, "dataset": "ds_none"}, 404, "unknown_dataset", "ds_none"),
        ({**GOOD, "dataset": "ds_refused"}, 409, "dataset_refused", "was refused"),
        ({**GOOD, "dataset": "ds_letters"}, 422, "invalid_request", "none of its labels (a, b, c, ...) is one of"),
        ({**GOOD, "precisions": []}, 422, "invalid_request", "body.precisions: list should have at least 1 item"),
        (
            {**GOOD, "precisions": "int8"},
            422,
            "invalid_request",
            "body.precisions: got 'int8', expected 'auto' or a list of 'int8' and 'fp16'",
        ),
        (
            {**GOOD, "precisions": ["int4"]},
            422,
            "invalid_request",
            "body.precisions.0: got 'int4', expected 'int8' or 'fp16'",
        ),
        ({**GOOD, "precision": "int8"}, 422, "invalid_request", "body.precision"),
    ],
)
def test_what_is_wrong_is_told_before_there_is_a_job(
    stack: Stack, body: dict[str, Any], status: int, code: str, said: str
) -> None:
    answer = ask(stack, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/models/nobody/versions/1/variants", "unknown_model"),
        ("/v1/models/colours/versions/99/variants", "unknown_version"),
        ("/v1/models/colours/versions/99999999999999999999/variants", "unknown_version"),
    ],
)
def test_an_unknown_version_is_said_to_be(stack: Stack, path: str, code: str) -> None:
    for answer in (ask(stack, path=path), httpx.get(f"{stack.url}{path}")):
        assert (answer.status_code, answer.json()["code"]) == (404, code)


def replace(stack: Stack, version: Version, folder: Path, artifact: str) -> Version:
    """As the trainer does it, past the gateway."""
    BlobStore((stack.folder / "blobs").as_uri()).put_folder(artifact, folder)
    manifest = {**read_manifest(folder).to_dict(), "variants": {"int8": REPORT}}
    with stack.registry() as registry:
        return registry.replace_artifact(
            version.model, version.number, expected=version.artifact, artifact=artifact, manifest=manifest,
            size_bytes=7,
        )  # fmt: skip


def test_new_files_of_a_version_are_served_within_moments_without_a_restart(stack: Stack, tmp_path: Path) -> None:
    version = stack.publish("models/grown/1", "grown")
    reports = f"{stack.url}/v1/models/grown/versions/1/variants"
    assert httpx.get(reports).json() == {
        "model": "grown", "version": 1, "precisions": ["float32"], "variants": {},
    }  # fmt: skip
    classify = f"{stack.url}/v1/models/grown/classify"
    before = httpx.post(classify, content=picture("red"), headers={"content-type": "image/png"}).json()
    make_colour_artifact(tmp_path / "new")
    shutil.copy(tmp_path / "new" / "model.onnx", tmp_path / "new" / "model.int8.onnx")
    replace(stack, version, tmp_path / "new", "models/grown/2")
    assert httpx.get(reports).json() == {
        "model": "grown", "version": 1, "precisions": ["float32", "int8"], "variants": {"int8": REPORT},
    }  # fmt: skip

    def is_loaded() -> bool:
        answer = httpx.post(classify, content=picture("red"), headers={"content-type": "image/png"})
        assert answer.json()["predictions"][0]["classes"] == before["predictions"][0]["classes"]
        workers = httpx.get(f"{stack.url}/readyz").json()["workers"]
        return any("models/grown/2" in worker["models"] for worker in workers)

    # The gateway remembers a version for a second, and a worker speaks every few.
    stack.wait_until(is_loaded, "the new files to be loaded", 30)
