"""Versions measured and compared on a dataset's images; over the real service."""

import csv
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.cards import Reading
from support.colours import LABELS, picture
from support.stack import Stack, running_stack
from support.world import archive_of

ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`colours:1` is right; `colours:2` takes red for green and green for red; `tints` knows one of the three."""
    with running_stack(tmp_path_factory.mktemp("evaluations")) as service:
        service.publish("models/colours/2/", labels=("green", "red", "blue"))
        service.publish("models/tints/1/", model="tints", labels=("Red", "jade", "blue"))
        service.publish("models/shapes/1/", model="shapes", labels=("Red", "circle", "square"))
        yield service


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def coloured(
    per_class: int, *, seed: int = 0, split: str = "", size: tuple[int, int] = (48, 40)
) -> dict[str, bytes]:
    return {
        f"{split}{colour}/{i:04d}.png": picture(colour, noise=1 + i + 10_000 * k + 100_000 * seed, size=size)
        for k, colour in enumerate(LABELS)
        for i in range(per_class)
    }


def uploaded(client: httpx.Client, stack: Stack, files: dict[str, bytes], **query: str) -> str:
    """The id of a dataset whose check has ended."""
    accepted = client.post("/v1/datasets", params={"name": "photos", **query}, content=archive_of(files))
    assert accepted.status_code == 202, accepted.text
    stack.wait_until(
        lambda: client.get(accepted.headers["location"]).json()["state"] != "checking", "the check", 60
    )
    return str(accepted.json()["id"])


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> str:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        return uploaded(client, stack, coloured(10))


def ended(client: httpx.Client, stack: Stack, job: str, timeout_s: float = 60) -> dict[str, Any]:
    stack.wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] in ENDED, "the job", timeout_s)
    found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
    return found


def started(client: httpx.Client, *models: str, **body: Any) -> str:
    answer = client.post("/v1/evaluations", json={"models": models, **body})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return str(answer.json()["id"])


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def compared(stack: Stack, dataset: str) -> dict[str, Any]:
    """The job of an evaluation of two versions, ended."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        return ended(client, stack, started(client, "colours:1", "colours@latest", dataset=dataset))


def test_two_versions_are_measured_and_compared(
    client: httpx.Client, dataset: str, compared: dict[str, Any]
) -> None:
    assert (compared["kind"], compared["state"], compared["error"]) == ("evaluate", "succeeded", None)
    assert compared["request"]["models"] == [
        {"model": "colours", "version": 1, "reference": "colours:1"},
        {"model": "colours", "version": 2, "reference": "colours@latest"},
    ]
    result = compared["result"]
    assert [score["accuracy"] for score in result["versions"]] == [1.0, pytest.approx(1 / 3)]
    assert "colours:1 is right more often than colours:2" in result["comparisons"][0]["conclusion"]
    report = client.get(f"/v1/evaluations/{compared['id']}").json()
    assert (report["job"], report["dataset"]["id"], report["images"]) == (compared["id"], dataset, 30)
    assert [version["reference"] for version in report["versions"]] == ["colours:1", "colours@latest"]
    for version, score in zip(report["versions"], result["versions"], strict=True):
        assert {name: version[name] for name in score} == score
    assert report["versions"][1]["confusion"]["labels"] == ["green", "red", "blue"]
    worst = report["versions"][1]["worst"][0]
    thumbnail = client.get(f"/v1/datasets/{dataset}/thumbnails/{worst['sha256']}")
    assert thumbnail.headers["content-type"] == "image/webp"
    (pair,) = report["comparisons"]
    assert (pair["both_right"], pair["only_first"], pair["only_second"], pair["neither"]) == (10, 20, 0, 0)
    assert (report["differing_images"], len(report["differing"])) == (20, 20)
    # Whose images are not known is said of both, once.
    assert len(report["warnings"]) == 2


def test_each_image_has_its_line_and_those_that_differ_can_be_had_alone(
    client: httpx.Client, compared: dict[str, Any]
) -> None:
    path = f"/v1/jobs/{compared['id']}/results"
    lines = lines_of(client.get(path))
    assert [line["path"] for line in lines] == sorted(coloured(10))
    for line in lines:
        first, second = line["answers"]
        assert first["label"] == line["label"]
        assert second["label"] == {"red": "green", "green": "red", "blue": "blue"}[line["label"]]
        assert first["of_label"] == first["probability"]
    differing = lines_of(client.get(f"{path}?differing=true"))
    assert differing == [line for line in lines if line["label"] != "blue"]
    table = client.get(f"{path}?differing=true", headers={"accept": "text/csv"}).text
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["path"] for row in rows] == [line["path"] for line in differing]
    assert rows[0]["colours:1 label"] == rows[0]["label"] != rows[0]["colours:2 label"]
    assert float(rows[0]["colours:2 probability"]) == pytest.approx(
        differing[0]["answers"][1]["probability"], abs=1e-5
    )


def test_the_card_is_a_page_of_its_own_in_both_forms(client: httpx.Client, compared: dict[str, Any]) -> None:
    page = client.get(f"/v1/evaluations/{compared['id']}/card")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in page.headers["content-security-policy"]
    reading = Reading(page.text)
    assert "colours:1 and colours:2" in reading.text
    assert "colours:1 is right more often" in reading.text
    assert [str(image["src"])[:11] for image in reading.all("img")] == ["data:image/"] * 8
    assert not [tag for tag in ("script", "link", "iframe") if reading.all(tag)]
    markdown = client.get(f"/v1/evaluations/{compared['id']}/card?format=md")
    assert markdown.headers["content-type"].startswith("text/markdown")
    assert markdown.text.startswith("# colours:1 and colours:2")
    assert "<!--" not in markdown.text


def test_what_is_not_there_yet_is_said(client: httpx.Client, stack: Stack, dataset: str) -> None:
    upload = client.get("/v1/jobs?kind=ingest").json()["items"][0]["id"]
    for path in (f"/v1/evaluations/{upload}", f"/v1/evaluations/{upload}/card"):
        assert (client.get(path).status_code, client.get(path).json()["code"]) == (404, "unknown_evaluation")
    refused = client.get(f"/v1/jobs/{upload}/results?differing=true")
    assert refused.json()["code"] == "no_results"
    assert client.get("/v1/evaluations/job_1").json()["code"] == "unknown_job"
    job = started(client, "colours:1", dataset=dataset)
    client.post(f"/v1/jobs/{job}/cancel")
    if ended(client, stack, job)["state"] == "cancelled":
        refused = client.get(f"/v1/evaluations/{job}")
        assert (refused.status_code, refused.json()["code"]) == (409, "evaluation_incomplete")


def test_a_dataset_of_other_names_is_measured_by_what_matches(
    client: httpx.Client, stack: Stack, dataset: str
) -> None:
    found = ended(client, stack, started(client, "tints", dataset=dataset))
    assert (found["result"]["versions"][0]["images"], found["result"]["versions"][0]["unknown_images"]) == (10, 20)
    refused = client.post("/v1/evaluations", json={"models": ["shapes"], "dataset": dataset})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    (error,) = refused.json()["errors"]
    assert error["field"] == "body.dataset"
    assert "(blue, green, red) is one of shapes:1's (Red, circle, square)" in error["message"]
    assert "'red' and 'Red' are nearest" in error["message"]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"models": ["colours:1", "colours@latest", "colours:2"]}, 422, "invalid_request", "body.models"),
        ({"models": []}, 422, "invalid_request", "body.models"),
        ({"models": ["colours"] * 9}, 422, "invalid_request", "body.models"),
        ({"models": ["nobody"]}, 404, "unknown_model", None),
        ({"models": ["colours:9"]}, 404, "unknown_version", None),
        ({"models": ["c:o:l"]}, 422, "invalid_reference", None),
        ({"split": "test"}, 422, "invalid_request", "body.split"),
        ({"split": "val"}, 422, "invalid_request", "body.split"),
        ({"precision": "int8"}, 409, "precision_unavailable", None),
        ({"dataset": "ds_1"}, 404, "unknown_dataset", None),
        ({"model": "colours"}, 422, "invalid_request", "body.model"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_job_is_made(
    client: httpx.Client, dataset: str, body: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    before = client.get("/v1/jobs").json()["items"]
    refused = client.post("/v1/evaluations", json={"models": ["colours:1"], "dataset": dataset, **body})
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    if field:
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert client.get("/v1/jobs").json()["items"] == before


def test_images_without_labels_measure_nothing(client: httpx.Client, stack: Stack) -> None:
    unlabelled = uploaded(client, stack, coloured(1, seed=5), labels="none")
    refused = client.post("/v1/evaluations", json={"models": ["colours"], "dataset": unlabelled})
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_unlabelled")


def test_a_split_of_the_datasets_own_is_measured(client: httpx.Client, stack: Stack) -> None:
    files = coloured(4, seed=1, split="train/") | coloured(2, seed=2, split="val/")
    split = uploaded(client, stack, files)
    found = ended(client, stack, started(client, "colours:1", dataset=split, split="validation"))
    assert (found["result"]["images"], found["result"]["split"]) == (6, "validation")
    refused = client.post("/v1/evaluations", json={"models": ["colours"], "dataset": split, "split": "test"})
    assert "it has: train, validation" in refused.json()["detail"]


def test_a_repeated_request_is_the_same_job(client: httpx.Client, dataset: str) -> None:
    body, headers = {"models": ["colours:1"], "dataset": dataset}, {"idempotency-key": "evaluation"}
    first, second = (client.post("/v1/evaluations", json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == second["id"]


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_report_of_an_unbroken_one(tmp_path: Path) -> None:
    """kill -9 to the bulk process in the middle, whenever some more of the answers are there."""
    with (
        running_stack(
            tmp_path, {"FOVEA_LEASE_S": "2", "FOVEA_RECONCILE_INTERVAL_S": "0.5", "FOVEA_REQUEUE_AFTER_S": "5"}
        ) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        service.publish("models/colours/2/", labels=("green", "red", "blue"))
        # Large enough that a kill comes before the end on any machine.
        dataset = uploaded(client, service, coloured(500, size=(500, 400)))
        unbroken = ended(client, service, started(client, "colours:1", "colours:2", dataset=dataset), 120)
        job = started(client, "colours:1", "colours:2", dataset=dataset)
        folder = service.folder / "blobs" / "jobs" / job / "results"
        for least in (2, 7):
            service.wait_until(lambda least=least: len(list(folder.rglob("*.jsonl"))) >= least, "answers", 60)
            kill_bulk_process(service)
            assert client.get(f"/v1/jobs/{job}").json()["state"] == "running"
        found = ended(client, service, job, 120)
        assert (found["state"], found["attempt"]) == ("succeeded", 3)
        assert found["result"] == unbroken["result"]
        reports = [client.get(f"/v1/evaluations/{one}").json() for one in (job, unbroken["id"])]
        assert len({json.dumps({**r, "job": "", "created_at": ""}) for r in reports}) == 1
        assert len(lines_of(client.get(f"/v1/jobs/{job}/results"))) == 1500


def kill_bulk_process(service: Stack) -> None:
    worker = psutil.Process(service.processes["inference"].pid)
    (bulk,) = [child for child in worker.children() if "workers.inference.bulk" in child.cmdline()]
    bulk.send_signal(signal.SIGKILL)
    # Its parent waits for it.
    service.wait_until(lambda: not bulk.is_running() or bulk.status() == psutil.STATUS_ZOMBIE, "its end", 10)
