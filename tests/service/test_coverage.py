"""Sets of classes by REST: at once, as a job and in bulk; refused where a version promises nothing."""

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.colours import LABELS, picture
from support.stack import Stack
from support.world import archive_of

from models.conformal import CONFORMAL, ConformalScores

# Of 39 images: enough for a coverage of 0.97, the threshold grows with the rank.
CALIBRATED = ConformalScores.of([place * 0.25 for place in range(1, 40)])
MODEL = "sure"


@pytest.fixture(scope="module", autouse=True)
def calibrated(stack: Stack) -> None:
    findings = {CONFORMAL: CALIBRATED.to_facts()}
    stack.publish("models/sure/1/", MODEL, variants={"int8": False}, findings=findings)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def ask(client: httpx.Client, image: bytes, model: str = MODEL, **asked: Any) -> httpx.Response:
    path = f"/v1/models/{model}/classify"
    headers = asked.pop("headers", {})
    return client.post(path, content=image, params=asked, headers={"content-type": "image/png", **headers})


def expected_labels(classes: list[dict[str, Any]], coverage: float) -> list[str]:
    """By the definition, of all classes with their probabilities; the network's temperature is 1."""
    threshold = CALIBRATED.threshold(coverage)
    likely = [found["label"] for found in classes if -math.log(max(found["probability"], 1e-30)) <= threshold]
    return likely or [classes[0]["label"]]


@pytest.mark.parametrize("coverage", [0.01, 0.5, 0.9, 0.95, 0.97])
def test_each_image_gets_the_classes_that_are_probable_enough(client: httpx.Client, coverage: float) -> None:
    sizes = []
    for image in (*map(picture, LABELS), picture("red", noise=3)):
        (found,) = ask(client, image, coverage=coverage, top_k=3).json()["predictions"]
        assert found["set"]["coverage"] == coverage
        assert [one["label"] for one in found["set"]["classes"]] == expected_labels(found["classes"], coverage)
        assert found["set"]["classes"] == found["classes"][: len(found["set"]["classes"])]
        sizes.append(len(found["set"]["classes"]))
    assert min(sizes) >= 1
    assert (max(sizes) > 1) == (coverage > 0.5)


def test_a_set_has_more_classes_than_were_to_be_named(client: httpx.Client) -> None:
    (found,) = ask(client, picture("red"), coverage=0.97, top_k=1).json()["predictions"]
    assert (len(found["classes"]), len(found["set"]["classes"])) == (1, 3)


def test_without_a_coverage_there_is_no_set(client: httpx.Client) -> None:
    for asked in ({}, {"top_k": 2}, {"precision": "float32"}):
        (found,) = ask(client, picture("red"), **asked).json()["predictions"]
        assert found["set"] is None


def test_of_several_images_one_that_fails_has_no_set(client: httpx.Client) -> None:
    files = [("file", ("a.png", picture("red"))), ("file", ("b.png", b"no image"))]
    answer = client.post(f"/v1/models/{MODEL}/classify", params={"coverage": 0.9}, files=files).json()
    first, second = answer["predictions"]
    assert first["set"]["classes"]
    assert (second["set"], second["error"]["code"]) == (None, "not_an_image")


def test_a_version_that_was_not_calibrated_is_refused_with_the_reason(client: httpx.Client) -> None:
    answer = ask(client, picture("red"), "colours", coverage=0.9)
    assert (answer.status_code, answer.json()["code"]) == (409, "coverage_unavailable")
    assert "it was not fine-tuned by this release" in answer.json()["detail"]
    assert (answer.json()["images"], answer.json()["highest_coverage"]) == (0, None)


def test_too_few_images_are_told_with_what_can_be_had(client: httpx.Client) -> None:
    answer = ask(client, picture("red"), coverage=0.99)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (409, "coverage_unavailable")
    assert (told["images"], told["needed"], told["highest_coverage"]) == (39, 99, 0.975)
    assert ask(client, picture("red"), coverage=told["highest_coverage"]).status_code == 200


def test_sets_are_those_of_float32_and_no_other_precision_has_them(client: httpx.Client) -> None:
    assert ask(client, picture("red"), coverage=0.9).json()["precision"] == "float32"
    refused = ask(client, picture("red"), coverage=0.9, precision="int8")
    assert (refused.status_code, refused.json()["code"]) == (409, "coverage_unavailable")
    assert "calibrated in float32" in refused.json()["detail"]


@pytest.mark.parametrize("coverage", ["0", "1", "-0.5", "nan", "inf", "95%", "1.5"])
def test_what_is_no_share_is_refused(client: httpx.Client, coverage: str) -> None:
    answer = ask(client, picture("red"), coverage=coverage)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"] == "query.coverage"


def ended(client: httpx.Client, stack: Stack, job: str) -> dict[str, Any]:
    def is_over() -> bool:
        return client.get(f"/v1/jobs/{job}").json()["state"] in ("succeeded", "failed", "cancelled")

    stack.wait_until(is_over, "the job")
    found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
    assert found["state"] == "succeeded", found["error"]
    return found


def test_a_job_has_the_same_sets_in_its_result_and_its_lines(client: httpx.Client, stack: Stack) -> None:
    at_once = ask(client, picture("green"), coverage=0.9).json()["predictions"][0]["set"]
    later = ask(client, picture("green"), coverage=0.9, headers={"prefer": "respond-async"})
    assert later.status_code == 202, later.text
    job = later.json()["id"]
    (found,) = ended(client, stack, job)["result"]["predictions"]
    assert found["set"] == at_once
    (line,) = client.get(f"/v1/jobs/{job}/results").text.splitlines()
    assert json.loads(line)["set"] == at_once


def test_in_bulk_lines_and_csv_have_them(client: httpx.Client, stack: Stack) -> None:
    files = {f"{label}.png": picture(label) for label in LABELS} | {"text.png": b"hello"}
    accepted = client.post(
        "/v1/datasets", params={"name": "photos", "labels": "none"}, content=archive_of(files)
    ).json()
    stack.wait_until(lambda: client.get(f"/v1/datasets/{accepted['id']}").json()["state"] == "ready", "the check")
    body = {"model": MODEL, "dataset": accepted["id"], "top_k": 1, "coverage": 0.95}
    job = client.post("/v1/classifications", json=body).json()["id"]
    assert ended(client, stack, job)["request"]["coverage"] == 0.95
    lines = [json.loads(line) for line in client.get(f"/v1/jobs/{job}/results").text.splitlines()]
    for line in lines[:3]:
        assert line["set"] == ask(client, files[line["path"]], coverage=0.95).json()["predictions"][0]["set"]
    assert "set" not in lines[3]
    table = client.get(f"/v1/jobs/{job}/results", headers={"accept": "text/csv"}).text
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["set"] for row in rows] == [
        *("; ".join(one["label"] for one in line["set"]["classes"]) for line in lines[:3]), "",
    ]  # fmt: skip
    assert "; " in rows[0]["set"]


@pytest.mark.parametrize("body", [{"coverage": 0.99}, {"coverage": 0.5, "model": "colours"}])
def test_a_bulk_job_that_could_not_keep_its_promise_is_not_begun(client: httpx.Client, body: Any) -> None:
    answer = client.post("/v1/classifications", json={"model": MODEL, "prefix": "", **body})
    assert (answer.status_code, answer.json()["code"]) == (409, "coverage_unavailable")


def test_the_client_has_the_sets(stack: Stack) -> None:
    with stack.client() as fovea:
        found = fovea.classify(picture("red"), model=MODEL, coverage=0.95)
        assert found.set
        assert (found.set.coverage, found.set.labels[0]) == (0.95, "red")
        assert fovea.classify(picture("red"), model=MODEL).set is None
        one, other = fovea.classify([picture("red"), picture("blue")], model=MODEL, coverage=0.5)
        assert (one.set and one.set.labels, other.set and other.set.labels) == (("red",), ("blue",))
        later = fovea.classify_later([picture("red")], model=MODEL, coverage=0.5).wait(timeout_s=60)
        assert [line.set.labels for line in later.results() if line.set] == [("red",)]
