"""A dataset's diagnosis, asked for and read; over the real service, the job also by a real training worker."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.cards import Reading
from support.colours import LABELS, picture
from support.embedding import make_embedding_artifact
from support.stack import Stack, running_stack
from support.world import archive_of

from models.artifact import read_manifest
from storage.blobs import BlobStore
from workers.contract.diagnoses import PAGE, REPORT, diagnosis_key

ENDED = ("succeeded", "failed", "cancelled")
PART: dict[str, Any] = {"total": 0, "checked": 9, "reason": None, "entries": []}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`colours` gives no embedding, `seeing` does."""
    with running_stack(tmp_path_factory.mktemp("diagnoses")) as service:
        publish_seeing(service, tmp_path_factory.mktemp("seeing"))
        yield service


def publish_seeing(service: Stack, folder: Path) -> None:
    make_embedding_artifact(folder)
    blobs_of(service).put_folder("models/seeing/1", folder)
    with service.registry() as registry:
        manifest = read_manifest(folder).to_dict()
        registry.add_version("seeing", artifact="models/seeing/1", manifest=manifest, size_bytes=1)


def blobs_of(service: Stack) -> BlobStore:
    return BlobStore(f"file://{service.folder / 'blobs'}")


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def uploaded(client: httpx.Client, stack: Stack, *, seed: int = 0, **query: str) -> str:
    """Two of thirty-six are called by another's name."""
    files = {
        f"{LABELS[(k + (i == 4 and k < 2)) % 3]}/{colour}{i:02d}.png": picture(
            colour, noise=1 + i + 100 * k + seed
        )
        for k, colour in enumerate(LABELS)
        for i in range(12)
    }
    accepted = client.post("/v1/datasets", params={"name": "photos", **query}, content=archive_of(files))
    stack.wait_until(
        lambda: client.get(accepted.headers["location"]).json()["state"] != "checking", "the check", 60
    )
    return str(accepted.json()["id"])


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> str:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        return uploaded(client, stack)


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_it_is_a_job_that_names_the_version_and_the_dataset(client: httpx.Client, dataset: str) -> None:
    body, once = {"model": "seeing"}, {"idempotency-key": "once"}
    answer = client.post(f"/v1/datasets/{dataset}/diagnosis", json=body, headers=once)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["request"]) == ("diagnose", {"model": "seeing", "version": 1, "dataset": dataset})
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    again = client.post(f"/v1/datasets/{dataset}/diagnosis", json=body, headers=once)
    assert again.json()["id"] == job["id"]
    # While it waits for a training worker the dataset stays.
    assert problem(client.delete(f"/v1/datasets/{dataset}")) == (409, "in_use")
    client.post(f"/v1/jobs/{job['id']}/cancel")


def test_what_cannot_be_looked_at_is_told_before_a_job_is_made(
    client: httpx.Client, stack: Stack, dataset: str
) -> None:
    path = f"/v1/datasets/{dataset}/diagnosis"
    refused = client.post(path, json={"model": "colours"})
    assert problem(refused) == (422, "invalid_request")
    assert "colours:1 gives no embedding" in refused.json()["detail"]
    assert problem(client.post(path, json={"model": "nobody"})) == (404, "unknown_model")
    assert problem(client.post(path, json={"model": "seeing", "classes": 3})) == (422, "invalid_request")
    for unknown in ("ds_01J9Z3NDEKTSV4RRFFQ69G5FAV", "builtin:digits"):
        assert problem(client.post(f"/v1/datasets/{unknown}/diagnosis", json={"model": "seeing"})) == (
            404, "unknown_dataset",
        )  # fmt: skip
    unlabelled = uploaded(client, stack, seed=5000, labels="none")
    refused = client.post(f"/v1/datasets/{unlabelled}/diagnosis", json={"model": "seeing"})
    assert problem(refused) == (409, "dataset_unlabelled")


def test_before_there_is_one_it_is_unknown_and_it_goes_with_the_dataset(
    client: httpx.Client, stack: Stack
) -> None:
    dataset = uploaded(client, stack, seed=9000)
    path = f"/v1/datasets/{dataset}/diagnosis"
    assert problem(client.get(path)) == (404, "unknown_diagnosis")
    assert f"POST {path} makes one" in client.get(path).json()["detail"]
    kinds = ("wrong_labels", "outliers", "near_duplicates", "without_influence", "overlapping_classes")
    report = {
        "dataset": {"id": dataset, "name": "photos", "content_hash": "0f"}, "model": "seeing", "version": 1,
        "created_at": "2026-11-27T04:00:00Z", "images": 9, "classes": 3, "warnings": [], "few_images": {},
        **dict.fromkeys(kinds, PART),
    }  # fmt: skip
    blobs = blobs_of(stack)
    blobs.put_bytes(diagnosis_key(dataset, REPORT), json.dumps(report).encode())
    blobs.put_bytes(diagnosis_key(dataset, PAGE), b"<!doctype html><title>photos</title>")
    assert client.get(path).json() == report
    page = client.get(path, params={"format": "html"})
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.endswith("sandbox")
    assert problem(client.get(path, params={"format": "pdf"})) == (422, "invalid_request")
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert problem(client.get(path)) == (404, "unknown_dataset")
    assert blobs.list(f"datasets/{dataset}") == []


@pytest.mark.slow
def test_turned_labels_are_found_by_a_real_training_worker(tmp_path: Path) -> None:
    with running_stack(tmp_path, {"FOVEA_TRAINING_DEVICE": "cpu"}) as service:
        publish_seeing(service, tmp_path / "seeing")
        service.start_process("training")
        with httpx.Client(base_url=service.url, timeout=60) as client:
            dataset = uploaded(client, service)
            path = f"/v1/datasets/{dataset}/diagnosis"
            job = client.post(path, json={"model": "seeing@latest"}).json()["id"]
            service.wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] in ENDED, "the job", 300)
            ended = client.get(f"/v1/jobs/{job}").json()
            assert (ended["state"], ended["error"]) == ("succeeded", None)
            assert ended["result"]["wrong_labels"] == 2
            found = client.get(path).json()["wrong_labels"]["entries"]
            assert {entry["path"] for entry in found[:2]} == {"green/red04.png", "blue/green04.png"}
            page = Reading(client.get(path, params={"format": "html"}).text)
            assert "green/red04.png" in page.text
