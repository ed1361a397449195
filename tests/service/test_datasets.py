"""A dataset arrives: streamed, checked by a job, reported, kept or refused; over the real service."""

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from support.colours import LABELS, picture
from support.stack import Stack

ZIP = {"content-type": "application/zip"}


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return buffer.getvalue()


def colours(seed: int, each: int = 4) -> dict[str, bytes]:
    return {f"{c}/{n}.png": picture(c, noise=seed * 100 + n + 1) for c in LABELS for n in range(each)}


def upload(
    client: httpx.Client, stack: Stack, body: bytes, name: str = "colours", **query: str
) -> dict[str, object]:
    """The dataset after its check has ended."""
    accepted = client.post("/v1/datasets", params={"name": name, **query}, content=body, headers=ZIP)
    assert accepted.status_code == 202, accepted.text
    job = f"/v1/jobs/{accepted.json()['job']['id']}"
    stack.wait_until(lambda: client.get(job).json()["state"] in ("succeeded", "failed"), "the check")
    dataset: dict[str, object] = client.get(accepted.headers["location"]).json()
    return dataset


def test_class_folders_become_a_ready_dataset(client: httpx.Client, stack: Stack) -> None:
    dataset = upload(client, stack, archive(colours(1)))
    assert (dataset["state"], dataset["labels"]) == ("ready", ["blue", "green", "red"])
    report = client.get(f"/v1/datasets/{dataset['id']}/report").json()
    assert report["images"] == 12
    assert dataset["id"] in [d["id"] for d in client.get("/v1/datasets").json()["items"]]


def test_a_tar_gz_is_taken_too(client: httpx.Client, stack: Stack) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, data in colours(2).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    assert upload(client, stack, buffer.getvalue())["state"] == "ready"


def test_an_archive_is_known_by_its_bytes_whatever_its_content_type(client: httpx.Client) -> None:
    for n, content_type in enumerate(("application/x-www-form-urlencoded", "text/plain", "application/json")):
        headers = {"content-type": content_type}
        answer = client.post("/v1/datasets?name=x", content=archive(colours(20 + n)), headers=headers)
        assert answer.status_code == 202, answer.text


def test_every_fault_is_listed_with_its_file(client: httpx.Client, stack: Stack) -> None:
    files = {**colours(3), "red/broken.png": picture("red")[:60], "red/note.txt": b"hello"}
    dataset = upload(client, stack, archive(files))
    assert dataset["state"] == "ready"
    report = client.get(f"/v1/datasets/{dataset['id']}/report").json()
    assert {"red/broken.png", "red/note.txt"} <= {fault["file"] for fault in report["faults"]}


def test_faults_are_refused_when_asked_for(client: httpx.Client, stack: Stack) -> None:
    files = {**colours(4), "red/broken.png": picture("red")[:60]}
    dataset = upload(client, stack, archive(files), on_fault="refuse")
    assert dataset["state"] == "refused"
    assert "red/broken.png" in str(client.get(f"/v1/datasets/{dataset['id']}/report").json()["faults"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (archive({f"red/{n}.png": picture("red", noise=n + 1) for n in range(5)}), "class"),
        (archive({"red/a.txt": b"x", "blue/b.txt": b"y"}), ""),
        (archive({"../../evil/a.png": picture("red"), "blue/b.png": picture("blue")}), ".."),
    ],
)
def test_what_can_never_be_a_dataset_is_refused_with_the_reason(
    client: httpx.Client, stack: Stack, body: bytes, said: str
) -> None:
    dataset = upload(client, stack, body)
    assert dataset["state"] == "refused"
    (first, *_) = client.get(f"/v1/datasets/{dataset['id']}/report").json()["refusals"]
    assert said in first.lower()
    for folder in ("cache/ingest", "uploads"):
        assert list((stack.folder / folder).glob("*")) == []


def test_the_same_content_twice_names_the_dataset_that_has_it(client: httpx.Client, stack: Stack) -> None:
    first = upload(client, stack, archive(colours(5)))
    second = upload(client, stack, archive(dict(reversed(colours(5).items()))))
    assert (second["state"], second["id"]) == ("ready", first["id"])
    assert [dataset["id"] for dataset in client.get("/v1/datasets").json()["items"]].count(first["id"]) == 1


def test_a_repeated_upload_with_the_same_key_returns_the_first(client: httpx.Client) -> None:
    body = archive(colours(6))
    headers = {**ZIP, "idempotency-key": "same"}
    answers = [client.post("/v1/datasets?name=x", content=body, headers=headers).json() for _ in range(2)]
    assert answers[0]["id"] == answers[1]["id"]
    other = client.post("/v1/datasets?name=x", content=archive(colours(7)), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_deleted_dataset_and_its_files_are_gone(client: httpx.Client, stack: Stack) -> None:
    dataset = upload(client, stack, archive(colours(8)))
    folder = stack.folder / "blobs" / "datasets" / str(dataset["id"])
    assert [file.name for file in folder.glob("*/dataset.json")] == ["dataset.json"]
    assert client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert client.get(f"/v1/datasets/{dataset['id']}").json()["code"] == "unknown_dataset"
    assert not folder.exists()


@pytest.mark.parametrize(
    ("params", "body", "content_type", "status", "code"),
    [
        ({}, b"x", "application/zip", 422, "invalid_request"),
        ({"name": "x", "on_fault": "maybe"}, b"x", "application/zip", 422, "invalid_request"),
        ({"name": "x"}, b"", "application/zip", 400, "empty_body"),
        ({"name": "x"}, b"no archive at all", "application/zip", 415, "unsupported_media_type"),
        ({"name": "x"}, b"--x\r\n", "multipart/form-data; boundary=x", 415, "unsupported_media_type"),
    ],
)
def test_a_wrong_upload_is_told_what_is_wrong(
    client: httpx.Client, params: dict[str, str], body: bytes, content_type: str, status: int, code: str
) -> None:
    answer = client.post("/v1/datasets", params=params, content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_upload_above_the_limit_leaves_nothing(tmp_path: Path) -> None:
    service = Stack(tmp_path, {"FOVEA_MAX_UPLOAD_BYTES": "1000"})
    try:
        service.start("gateway")

        def endless() -> Iterator[bytes]:
            for _ in range(100):
                yield bytes(1000)

        for content in (bytes(5000), endless()):
            answer = httpx.post(f"{service.url}/v1/datasets?name=x", content=content, headers=ZIP, timeout=20)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert "1000 bytes" in answer.json()["detail"]
        assert list((tmp_path / "uploads").glob("*")) == []
    finally:
        service.stop()
