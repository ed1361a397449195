"""Many images as one job, and a line for each of them; over the real service."""

import csv
import io
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.colours import LABELS, picture
from support.stack import Stack, running_stack
from support.world import archive_of, colours_archive

ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def put_images(stack: Stack, prefix: str, count: int, size: tuple[int, int] = (48, 40)) -> list[str]:
    """As the operator puts them; their paths in order."""
    paths = [f"{prefix}/{number:05d}.png" for number in range(count)]
    pictures = [picture(label, size=size, noise=1) for label in LABELS]
    (stack.folder / "blobs" / "images" / prefix).mkdir(parents=True)
    for number, path in enumerate(paths):
        (stack.folder / "blobs" / "images" / path).write_bytes(pictures[number % 3])
    return paths


def uploaded(client: httpx.Client, stack: Stack, archive: bytes, **query: str) -> str:
    """The id of a dataset whose check has ended."""
    accepted = client.post("/v1/datasets", params={"name": "photos", **query}, content=archive)
    assert accepted.status_code == 202, accepted.text
    stack.wait_until(
        lambda: client.get(accepted.headers["location"]).json()["state"] != "checking", "the check", 30
    )
    return str(accepted.json()["id"])


def ended(client: httpx.Client, stack: Stack, job: str, timeout_s: float = 60) -> dict[str, Any]:
    stack.wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] in ENDED, "the job", timeout_s)
    found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
    return found


def started(client: httpx.Client, **body: Any) -> str:
    answer = client.post("/v1/classifications", json={"model": "colours", **body})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return str(answer.json()["id"])


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_dataset_is_classified_and_its_results_come_in_three_forms(client: httpx.Client, stack: Stack) -> None:
    dataset = uploaded(client, stack, colours_archive())
    job = started(client, dataset=dataset, top_k=1000)
    found = ended(client, stack, job)
    assert (found["kind"], found["state"], found["request"]["version"]) == ("classify_many", "succeeded", 1)
    # No more than the version has.
    assert found["request"]["top_k"] == 3
    assert (found["result"]["images"], found["result"]["errors"]) == (9, {})
    assert {"phase", "done", "total", "eta_s"} <= set(found["progress"])
    results = client.get(f"/v1/jobs/{job}/results")
    assert results.headers["content-type"] == "application/jsonl"
    lines = lines_of(results)
    assert [line["path"] for line in lines] == [f"{label}/{n}.png" for label in sorted(LABELS) for n in range(3)]
    assert [line["classes"][0]["label"] for line in lines] == [label for label in sorted(LABELS) for _ in range(3)]
    other = client.get(f"/v1/jobs/{job}/results", headers={"accept": "application/x-ndjson"})
    assert (other.headers["content-type"], other.content) == ("application/x-ndjson", results.content)
    table = client.get(f"/v1/jobs/{job}/results", headers={"accept": "text/csv, */*;q=0.1"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    assert {row["label_3"] for row in rows} <= set(LABELS)
    assert float(rows[0]["probability"]) == pytest.approx(lines[0]["classes"][0]["probability"], abs=1e-5)
    refused = client.get(f"/v1/jobs/{job}/results", headers={"accept": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")


def test_an_archive_without_labels_is_ready_to_be_classified_and_not_to_be_learnt(
    client: httpx.Client, stack: Stack
) -> None:
    files = {"2026/a.png": picture("red"), "b.png": picture("red"), "c.png": b"", "notes.txt": b"hello"}
    dataset = uploaded(client, stack, archive_of(files), labels="none")
    found = client.get(f"/v1/datasets/{dataset}").json()
    assert (found["state"], found["labels"], found["counts"]) == ("ready", [], {})
    report = client.get(f"/v1/datasets/{dataset}/report").json()
    assert (report["layout"], report["files"], report["images"]) == ("unlabelled", 4, 2)
    assert {fault["file"] for fault in report["faults"]} == {"c.png", "notes.txt"}
    job = started(client, dataset=dataset)
    assert ended(client, stack, job)["result"]["errors"] == {"not_an_image": 2}
    lines = lines_of(client.get(f"/v1/jobs/{job}/results"))
    assert [line["path"] for line in lines] == sorted(files)
    finetune = {"model": "m", "dataset": dataset, "architecture": "lenet5", "weights": "none"}
    for path, body in {
        "/v1/finetunes": finetune,
        "/v1/models/colours/versions/1/variants": {"dataset": dataset},
    }.items():
        refused = client.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "dataset_unlabelled"), refused.text
        assert "labels=none" in refused.json()["detail"]
    assert client.get("/v1/jobs?kind=finetune").json()["items"] == []


def test_faulty_files_refuse_an_archive_without_labels_where_that_is_asked_for(
    client: httpx.Client, stack: Stack
) -> None:
    archive = archive_of({"a.png": picture("red"), "b.png": b"x"})
    dataset = uploaded(client, stack, archive, labels="none", on_fault="refuse")
    assert client.get(f"/v1/datasets/{dataset}").json()["state"] == "refused"
    refused = client.post("/v1/classifications", json={"model": "colours", "dataset": dataset})
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_refused")


def test_a_folder_of_the_operators_is_classified(client: httpx.Client, stack: Stack) -> None:
    paths = put_images(stack, "2026/november", 5)
    put_images(stack, "2026/november-not", 1)
    job = started(client, prefix="2026/november/", model="colours@latest")
    assert ended(client, stack, job)["state"] == "succeeded"
    assert [line["path"] for line in lines_of(client.get(f"/v1/jobs/{job}/results"))] == paths
    refused = client.post("/v1/classifications", json={"model": "colours", "prefix": "2026/december"})
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_prefix")


@pytest.mark.parametrize(
    "prefix", ["../models", "2026/../../datasets", "/etc", "a//b", ".", "..", "a\\b", "a/\x00", "x" * 1025, 5, []]
)
def test_a_prefix_that_leads_elsewhere_is_refused(client: httpx.Client, prefix: object) -> None:
    refused = client.post("/v1/classifications", json={"model": "colours", "prefix": prefix})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert [error["field"] for error in refused.json()["errors"]] == ["body.prefix"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"dataset": "ds_1", "prefix": "a"}, 422, "invalid_request"),
        ({"dataset": "ds_1"}, 404, "unknown_dataset"),
        ({"dataset": "builtin:digits"}, 422, "invalid_request"),
        ({"model": "nobody", "prefix": ""}, 404, "unknown_model"),
        ({"model": "colours:9", "prefix": ""}, 404, "unknown_version"),
        ({"prefix": "", "top_k": 0}, 422, "invalid_request"),
        ({"prefix": "", "precision": "int8"}, 409, "precision_unavailable"),
        ({"prefix": "", "precision": "int4"}, 422, "invalid_request"),
        ({"prefix": "", "datset": "x"}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_job_is_made(
    client: httpx.Client, body: dict[str, Any], status: int, code: str
) -> None:
    before = client.get("/v1/jobs").json()["items"]
    refused = client.post("/v1/classifications", json={"model": "colours", **body})
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert client.get("/v1/jobs").json()["items"] == before


def test_a_repeated_request_is_the_same_job_whatever_the_alias_names_by_then(
    client: httpx.Client, stack: Stack
) -> None:
    put_images(stack, "again", 1)
    body, headers = {"model": "colours", "prefix": "again"}, {"idempotency-key": "november"}
    first, second = (client.post("/v1/classifications", json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == second["id"]
    other = client.post("/v1/classifications", json={**body, "top_k": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_an_asynchronous_classify_has_lines_too(client: httpx.Client, stack: Stack) -> None:
    files = [("file", (name, picture("red"), "image/png")) for name in ("=a.png", "b.png")]
    answer = client.post("/v1/models/colours/classify?top_k=2", files=files, headers={"prefer": "respond-async"})
    job = answer.json()["id"]
    ended(client, stack, job)
    lines = lines_of(client.get(f"/v1/jobs/{job}/results"))
    assert [(line["path"], line["classes"][0]["label"]) for line in lines] == [("=a.png", "red"), ("b.png", "red")]
    table = client.get(f"/v1/jobs/{job}/results", headers={"accept": "text/csv"}).text
    assert (
        table.splitlines()[0]
        == "path,label,probability,label_2,probability_2,error,detail,is_unknown,unknown_score"
    )
    assert table.splitlines()[1].startswith("'=a.png,red,")


def test_a_job_of_another_kind_has_no_lines(client: httpx.Client, stack: Stack) -> None:
    dataset = client.post("/v1/datasets?name=x", content=colours_archive(seed=9)).json()
    refused = client.get(f"/v1/jobs/{dataset['job']['id']}/results")
    assert (refused.status_code, refused.json()["code"]) == (404, "no_results")
    assert client.get("/v1/jobs/job_1/results").json()["code"] == "unknown_job"


def test_a_part_is_sent_only_where_it_is_asked_for(client: httpx.Client, stack: Stack) -> None:
    paths = put_images(stack, "many", 600)
    job = started(client, prefix="many")
    refused = client.get(f"/v1/jobs/{job}/results")
    assert (refused.status_code, refused.json()["code"]) == (409, "results_incomplete")
    assert refused.headers["retry-after"] == "1"
    client.post(f"/v1/jobs/{job}/cancel")
    found = ended(client, stack, job)
    lines = lines_of(client.get(f"/v1/jobs/{job}/results?partial=true"))
    assert [line["path"] for line in lines] == paths[: len(lines)]
    if found["state"] == "cancelled":
        refused = client.get(f"/v1/jobs/{job}/results")
        assert (refused.status_code, refused.json()["code"]) == (409, "results_incomplete")
        assert "cancelled" in refused.json()["detail"]


def test_a_dataset_stays_while_it_is_classified(client: httpx.Client, stack: Stack) -> None:
    many = {f"{n}.png": picture(LABELS[n % 3], noise=n + 1) for n in range(600)}
    dataset = uploaded(client, stack, archive_of(many), labels="none")
    job = started(client, dataset=dataset)
    refused = client.delete(f"/v1/datasets/{dataset}")
    assert ended(client, stack, job)["state"] == "succeeded"
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert len(lines_of(client.get(f"/v1/jobs/{job}/results"))) == len(many)


@pytest.mark.slow
def test_killed_again_and_again_a_job_of_2000_images_has_2000_lines(tmp_path: Path) -> None:
    """kill -9 to the bulk process in the middle, whenever some more of the results are there."""
    with (
        running_stack(
            tmp_path, {"FOVEA_LEASE_S": "2", "FOVEA_RECONCILE_INTERVAL_S": "0.5", "FOVEA_REQUEUE_AFTER_S": "5"}
        ) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        # Large enough that a kill comes before the end on any machine.
        paths = put_images(service, "2000", 2000, size=(600, 400))
        job = started(client, prefix="2000")
        folder = service.folder / "blobs" / "jobs" / job / "results"
        for least in (2, 8, 16):
            service.wait_until(lambda least=least: len(list(folder.glob("*.jsonl"))) >= least, "results", 60)
            kill_bulk_process(service)
            assert client.get(f"/v1/jobs/{job}").json()["state"] == "running"
        found = ended(client, service, job, 120)
        assert (found["state"], found["attempt"]) == ("succeeded", 4)
        lines = lines_of(client.get(f"/v1/jobs/{job}/results"))
        assert [line["path"] for line in lines] == paths
        assert Counter(line["classes"][0]["label"] for line in lines) == {"red": 667, "green": 667, "blue": 666}
        assert found["result"]["images"] == 2000


def kill_bulk_process(service: Stack) -> None:
    worker = psutil.Process(service.processes["inference"].pid)
    (bulk,) = [child for child in worker.children() if "workers.inference.bulk" in child.cmdline()]
    bulk.send_signal(signal.SIGKILL)
    # Its parent waits for it.
    service.wait_until(lambda: not bulk.is_running() or bulk.status() == psutil.STATUS_ZOMBIE, "its end", 10)
