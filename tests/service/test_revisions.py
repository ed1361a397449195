"""A dataset is corrected: relabelled, removed, moved, added to; over the real service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.colours import picture
from support.stack import Stack
from support.world import archive_of, colours_archive

ZIP = {"content-type": "application/zip"}


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def checked(client: httpx.Client, stack: Stack, accepted: httpx.Response) -> dict[str, Any]:
    assert accepted.status_code == 202, accepted.text
    job = f"/v1/jobs/{accepted.json()['job']['id']}"
    stack.wait_until(lambda: client.get(job).json()["state"] in ("succeeded", "failed"), "the check")
    dataset: dict[str, Any] = client.get(accepted.headers["location"]).json()
    return dataset


def upload(client: httpx.Client, stack: Stack, seed: int) -> dict[str, Any]:
    body = colours_archive(seed=seed)
    return checked(client, stack, client.post("/v1/datasets?name=colours", content=body, headers=ZIP))


def revise(client: httpx.Client, stack: Stack, dataset: str, **changes: Any) -> dict[str, Any]:
    return checked(client, stack, client.post(f"/v1/datasets/{dataset}/revisions", json=changes))


def files_of(stack: Stack, dataset: str) -> list[Path]:
    folder = stack.folder / "blobs" / "datasets" / dataset
    return [file for file in folder.glob("*/files/*/*") if file.is_file()]


def test_a_revision_is_a_dataset_of_its_own(client: httpx.Client, stack: Stack) -> None:
    first = upload(client, stack, 51)
    change = {"image": "red/0.png", "label": "blue"}
    second = revise(client, stack, first["id"], relabel=[change], remove=["red/1.png"], name="mended")
    assert (second["state"], second["name"]) == ("ready", "mended")
    assert (second["parent"], second["revision"], first["parent"], first["revision"]) == (first["id"], 2, None, 1)
    assert (second["counts"]["blue"], second["counts"]["red"]) == ({"all": 4}, {"all": 1})
    assert client.get(f"/v1/datasets/{first['id']}").json() == first
    third = revise(client, stack, second["id"], remove=["green/0.png"])
    family = client.get(f"/v1/datasets/{second['id']}/revisions").json()["items"]
    assert [(d["id"], d["revision"]) for d in family] == [(third["id"], 3), (second["id"], 2), (first["id"], 1)]
    report = client.get(f"/v1/datasets/{second['id']}/report").json()
    assert report["revision"]["relabelled"] == [{"from": "red", "to": "blue", "images": 1}]
    assert not files_of(stack, second["id"])


def test_images_are_added_by_a_form(client: httpx.Client, stack: Stack) -> None:
    first = upload(client, stack, 52)
    new = picture("red", noise=52_777)
    form = {
        "changes": (None, json.dumps({"remove": ["red/0.png"]}), "application/json"),
        "archive": ("more.zip", archive_of({"red/new.png": new}), "application/zip"),
    }
    accepted = client.post(f"/v1/datasets/{first['id']}/revisions", files=form)
    second = checked(client, stack, accepted)
    report = client.get(f"/v1/datasets/{second['id']}/report").json()
    assert (report["images"], report["files"], report["revision"]["added"]) == (9, 1, {"red": 1})
    assert [file.read_bytes() for file in files_of(stack, second["id"])] == [new]
    job = client.get(f"/v1/jobs/{accepted.json()['job']['id']}").json()
    assert (job["kind"], job["result"]["added"], job["result"]["removed"]) == ("revise", 1, 1)


def test_a_change_that_cannot_be_made_refuses_all_of_them(client: httpx.Client, stack: Stack) -> None:
    first = upload(client, stack, 53)
    refused = revise(client, stack, first["id"], remove=["red/0.png", "red/7.png", "1.png"])
    assert refused["state"] == "refused"
    report = client.get(f"/v1/datasets/{refused['id']}/report").json()
    errors = {fault["file"]: fault["code"] for fault in report["faults"] if fault["severity"] == "error"}
    assert errors == {"red/7.png": "unknown_image", "1.png": "ambiguous_image"}


def test_an_image_is_gone_when_no_dataset_holds_it(client: httpx.Client, stack: Stack) -> None:
    first = upload(client, stack, 54)
    second = revise(client, stack, first["id"], remove=["red/0.png"])
    third = revise(client, stack, second["id"], remove=["red/1.png"])
    assert len(files_of(stack, first["id"])) == 9
    assert client.delete(f"/v1/datasets/{first['id']}").status_code == 204
    assert len(files_of(stack, first["id"])) == 8
    assert not list((stack.folder / "blobs" / "datasets" / first["id"]).rglob("*.json*"))
    assert client.get(f"/v1/datasets/{first['id']}").status_code == 404
    lines = (stack.folder / "blobs" / "datasets" / third["id"]).glob("*/samples.jsonl")
    sample = json.loads(next(iter(lines)).read_text().splitlines()[0])
    thumbnail = f"/v1/datasets/{third['id']}/thumbnails/{sample['sha256']}"
    assert client.get(thumbnail).content.startswith(b"RIFF")
    assert client.delete(f"/v1/datasets/{second['id']}").status_code == 204
    assert len(files_of(stack, first["id"])) == 7
    assert client.get(thumbnail).status_code == 200
    assert [d["id"] for d in client.get(f"/v1/datasets/{third['id']}/revisions").json()["items"]] == [third["id"]]
    assert client.delete(f"/v1/datasets/{third['id']}").status_code == 204
    assert not (stack.folder / "blobs" / "datasets" / first["id"]).exists()


def test_a_repeated_request_with_the_same_key_makes_one_revision(client: httpx.Client, stack: Stack) -> None:
    first = upload(client, stack, 55)
    url = f"/v1/datasets/{first['id']}/revisions"
    headers = {"idempotency-key": "revise-55"}
    answers = [client.post(url, json={"remove": ["red/0.png"]}, headers=headers) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    other = client.post(url, json={"remove": ["red/1.png"]}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    checked(client, stack, answers[0])


@pytest.mark.parametrize(
    ("sent", "status", "code", "words"),
    [
        ({"json": {}}, 422, "invalid_request", "nothing is to be changed"),
        ({"json": {"relabel": [{"image": "a"}]}}, 422, "invalid_request", "label"),
        ({"json": {"relabel": [{"image": "a", "label": " "}]}}, 422, "invalid_request", "the label is empty"),
        ({"json": {"remove": [3]}}, 422, "invalid_request", "remove"),
        ({"json": {"move": [{"image": "a", "split": "best"}]}}, 422, "invalid_request", "split"),
        ({"json": {"removed": ["a"]}}, 422, "invalid_request", "removed"),
        ({"json": [1]}, 422, "invalid_request", "body"),
        ({"json": {"remove": ["a"], "base_content_hash": "0" * 64}}, 409, "conflict", "content hash"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_body", "not JSON"),
        ({"content": b"x", "headers": ZIP}, 415, "unsupported_media_type", "expected JSON, or a form"),
        ({"files": {"archive": ("a.zip", b"no archive", "application/zip")}}, 415, "unsupported_media_type", ""),
        ({"files": {"archive": ("a.zip", b"", "application/zip")}}, 400, "empty_body", "empty"),
        ({"files": {"images": ("a.png", b"x", "image/png")}}, 422, "invalid_request", "changes, archive"),
        ({"files": {"archive": (None, "text")}}, 422, "invalid_request", "expected a file"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    client: httpx.Client, dataset: str, sent: dict[str, Any], status: int, code: str, words: str
) -> None:
    answer = client.post(f"/v1/datasets/{dataset}/revisions", **sent)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert words in answer.json()["detail"]


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> str:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        return str(upload(http, stack, 56)["id"])


def test_what_is_not_there_or_has_no_labels_is_not_revised(client: httpx.Client, stack: Stack) -> None:
    answer = client.post("/v1/datasets/ds_01J9Z3NDEKTSV4RRFFQ69G5FAV/revisions", json={"remove": ["a"]})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_dataset")
    body = archive_of({"a.png": picture("red", noise=57_001)})
    accepted = client.post("/v1/datasets?name=x&labels=none", content=body, headers=ZIP)
    unlabelled = checked(client, stack, accepted)["id"]
    answer = client.post(f"/v1/datasets/{unlabelled}/revisions", json={"remove": ["a.png"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_unlabelled")


def test_a_fine_tune_may_name_a_revision_that_is_being_made(client: httpx.Client, stack: Stack) -> None:
    first = upload(client, stack, 58)
    accepted = client.post(f"/v1/datasets/{first['id']}/revisions", json={"remove": ["red/0.png"]})
    asked = {
        "model": "revised",
        "dataset": accepted.json()["id"],
        "architecture": "lenet5",
        "weights": "none",
    }
    started = client.post("/v1/finetunes", json=asked)
    assert started.status_code == 202, started.text
    client.post(f"/v1/jobs/{started.json()['id']}/cancel")
    checked(client, stack, accepted)
