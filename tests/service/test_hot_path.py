"""An image is classified: HTTP, Redis, Celery and ONNX Runtime, all of them real."""

import base64
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from support.colours import LABELS, picture
from support.load import post, send_all
from support.stack import Stack

from service.intake import PIECE_BYTES
from workers.contract.queues import IMAGE_PREFIX

PNG = {"content-type": "image/png"}


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=20) as http:
        yield http


def best(answer: httpx.Response) -> list[str | None]:
    return [p["classes"] and p["classes"][0]["label"] for p in answer.json()["predictions"]]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
@pytest.mark.parametrize("colour", LABELS)
def test_a_raw_body_is_classified(client: httpx.Client, colour: str, form: str) -> None:
    answer = client.post(
        "/v1/models/colours/classify",
        content=picture(colour, form=form),
        headers={"content-type": f"image/{form.lower()}"},
    )
    assert answer.status_code == 200
    assert best(answer) == [colour]
    assert answer.json()["provider"] == "CPUExecutionProvider"
    assert (answer.json()["model"], answer.json()["version"]) == ("colours", 1)


def test_probabilities_are_sorted_and_sum_to_one(client: httpx.Client) -> None:
    answer = client.post("/v1/models/colours/classify?top_k=3", content=picture("green"), headers=PNG)
    scores = [c["probability"] for c in answer.json()["predictions"][0]["classes"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_top_k_limits_the_classes(client: httpx.Client) -> None:
    answer = client.post("/v1/models/colours/classify?top_k=1", content=picture("green"), headers=PNG)
    assert len(answer.json()["predictions"][0]["classes"]) == 1


def test_an_answer_is_the_same_whoever_reads_the_request(client: httpx.Client) -> None:
    """A body of known size goes past FastAPI, one in chunks and an unusual query do not."""
    image = picture("green")
    answers = [
        client.post(f"/v1/models/colours/classify?top_k={top_k}", content=body, headers=PNG)
        for top_k, body in (("2", image), ("2", iter([image[:100], image[100:]])), ("002", image))
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {frozenset(answer.headers) for answer in answers} == {frozenset(answers[0].headers)}
    bodies = [{**answer.json(), "timings": None} for answer in answers]
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(bodies[0]["predictions"][0]["classes"]) == 2


def test_a_version_is_served_in_the_precision_that_is_asked_for(stack: Stack, client: httpx.Client) -> None:
    stack.publish("models/precise/1/", "precise", variants={"int8": True})
    for asked, precision in {"int8": "int8", "float32": "float32", "auto": "float32"}.items():
        answer = client.post(f"/v1/models/precise/classify?precision={asked}", content=picture("red"), headers=PNG)
        assert (answer.json()["precision"], best(answer)) == (precision, ["red"])


def test_a_precision_that_a_version_does_not_have_is_refused_with_those_it_has(client: httpx.Client) -> None:
    answer = client.post("/v1/models/colours/classify?precision=int8", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (409, "precision_unavailable")
    assert "in float32; not in int8, for that was not tried" in answer.json()["detail"]
    unknown = client.post("/v1/models/colours/classify?precision=int4", content=picture("red"), headers=PNG)
    assert unknown.status_code == 422
    assert "'float32'" in unknown.json()["errors"][0]["message"]


def test_many_files_are_answered_in_the_order_sent(client: httpx.Client) -> None:
    colours = ["blue", "red", "green", "red", "blue"] * 8
    files = [("file", (f"{n}.png", picture(c, noise=n + 1))) for n, c in enumerate(colours)]
    answer = client.post("/v1/models/colours/classify", files=files)
    assert best(answer) == colours
    assert [p["name"] for p in answer.json()["predictions"]] == [f"{n}.png" for n in range(40)]


def test_base64_in_json_is_classified(client: httpx.Client) -> None:
    images = [base64.b64encode(picture(colour)).decode() for colour in LABELS]
    assert best(client.post("/v1/models/colours/classify", json={"images": images})) == list(LABELS)


@pytest.mark.parametrize("as_job", [False, True])
def test_large_images_are_classified_however_they_are_sent_and_nothing_of_them_stays_in_redis(
    client: httpx.Client, stack: Stack, as_job: bool
) -> None:
    """They are in Redis piece by piece before their request is whole."""
    blue, red = (picture(colour, size=(900, 700), noise=1) for colour in ("blue", "red"))
    assert min(len(blue), len(red)) > 2 * PIECE_BYTES
    bodies: dict[str, dict[str, Any]] = {
        "raw": {"content": blue, "headers": PNG},
        "form": {"files": [("file", ("a.png", blue)), ("b", ("b.png", picture("green"))), ("c", ("c", red))]},
        "json": {"json": {"images": [base64.b64encode(data).decode() for data in (blue, red)]}},
    }
    found = []
    for body in bodies.values():
        headers = {**body.pop("headers", {}), **({"prefer": "respond-async"} if as_job else {})}
        answer = client.post("/v1/models/colours/classify", headers=headers, **body)
        assert answer.status_code == (202 if as_job else 200)
        if as_job:
            location = answer.headers["location"]
            stack.wait_until(lambda at=location: client.get(at).json()["state"] == "succeeded", "the job")
            predictions = client.get(location).json()["result"]["predictions"]
        else:
            predictions = answer.json()["predictions"]
        found.append([prediction["classes"][0]["label"] for prediction in predictions])
    assert found == [["blue"], ["blue", "green", "red"], ["blue", "red"]]
    assert images_in(stack) == []


def test_what_a_client_began_to_send_is_forgotten_when_it_leaves(stack: Stack) -> None:
    data = picture("blue", size=(900, 700), noise=1)
    whole = post("/v1/models/colours/classify", data, "image/png")
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        connection.sendall(whole[:-1000])
        stack.wait_until(lambda: len(images_in(stack)) == 1, "the image's first pieces", 10)
    stack.wait_until(lambda: images_in(stack) == [], "the pieces to be gone", 10)


def images_in(stack: Stack) -> list[Any]:
    with redis.Redis.from_url(stack.redis.url) as server:
        return list(server.scan_iter(f"{IMAGE_PREFIX}*"))


def test_a_broken_image_does_not_harm_its_neighbours(client: httpx.Client) -> None:
    broken = picture("red")[:60]
    files = [
        ("file", ("good.png", picture("blue"))),
        ("file", ("broken.png", broken)),
        ("file", ("no.txt", b"hi")),
    ]
    predictions = client.post("/v1/models/colours/classify", files=files).json()["predictions"]
    assert predictions[0]["classes"][0]["label"] == "blue"
    assert [p["error"] and p["error"]["code"] for p in predictions] == [None, "image_unreadable", "not_an_image"]


@pytest.mark.parametrize("reference", ["colours", "colours@latest", "colours:1"])
def test_a_model_is_referred_to_by_name_alias_or_number(client: httpx.Client, reference: str) -> None:
    answer = client.post(f"/v1/models/{reference}/classify", content=picture("red"), headers=PNG)
    assert best(answer) == ["red"]


@pytest.mark.parametrize(
    ("reference", "body", "content_type", "status", "code"),
    [
        ("colours", b"plain text", "image/png", 400, "not_an_image"),
        ("colours", b"", "image/png", 400, "not_an_image"),
        ("colours", b"x", "text/plain", 415, "unsupported_media_type"),
        ("colours", picture("red")[:60], "image/png", 422, "image_unreadable"),
        ("nothing", picture("red"), "image/png", 404, "unknown_model"),
        ("colours:9", picture("red"), "image/png", 404, "unknown_version"),
        ("colours@gone", picture("red"), "image/png", 404, "unknown_alias"),
        ("colours@@", picture("red"), "image/png", 422, "invalid_reference"),
        ("colours", b"\x89PNG\r\n\x1a\n" + bytes(33 * 2**20), "image/png", 413, "too_large"),
        ("colours", b"\x89PNG\r\n\x1a\n" + bytes(130 * 2**20), "image/png", 413, "too_large"),
    ],
)  # fmt: skip
def test_each_fault_has_its_own_answer(
    client: httpx.Client, reference: str, body: bytes, content_type: str, status: int, code: str
) -> None:
    answer = client.post(
        f"/v1/models/{reference}/classify",
        content=body,
        headers={"content-type": content_type, "x-request-id": "mine"},
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == "mine" == answer.headers["x-request-id"]
    assert answer.json()["detail"]


@pytest.mark.parametrize("top_k", ["0", "1001", "many"])
def test_a_wrong_parameter_is_named(client: httpx.Client, top_k: str) -> None:
    answer = client.post(f"/v1/models/colours/classify?top_k={top_k}", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "top_k" in answer.json()["detail"]


def test_a_body_that_is_no_json_is_told_so_and_where(client: httpx.Client) -> None:
    body, headers = b'{"architecture": "resnet18"', {"content-type": "application/json"}
    answer = client.post("/v1/models/m/versions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["detail"] == "body: it is not JSON: Expecting ',' delimiter at character 27"


def test_an_unreadable_request_id_is_replaced(client: httpx.Client) -> None:
    answer = client.get("/livez", headers={"x-request-id": "a b\tc" * 60})
    assert len(answer.headers["x-request-id"]) == 32


def test_respond_async_makes_a_job_that_ends_with_the_result(client: httpx.Client, stack: Stack) -> None:
    headers = {"prefer": "respond-async", "idempotency-key": "once"}
    files = [("file", (f"{c}.png", picture(c))) for c in LABELS]
    request = client.build_request("POST", "/v1/models/colours/classify", files=files, headers=headers)
    request.read()
    accepted = client.send(request)
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    location = accepted.headers["location"]
    stack.wait_until(lambda: client.get(location).json()["state"] == "succeeded", "the job")
    predictions = client.get(location).json()["result"]["predictions"]
    assert [p["classes"][0]["label"] for p in predictions] == list(LABELS)
    assert client.send(request).json()["id"] == accepted.json()["id"]


def test_a_jobs_events_end_with_its_success_and_resume_after_the_last_seen(
    client: httpx.Client, stack: Stack
) -> None:
    headers = {"prefer": "respond-async", **PNG}
    location = client.post("/v1/models/colours/classify", content=picture("red"), headers=headers).headers[
        "location"
    ]
    whole = client.get(f"{location}/events").text
    ids = [int(line.removeprefix("id: ")) for line in whole.splitlines() if line.startswith("id: ")]
    assert '"succeeded"' in whole
    assert ids == sorted(ids)
    rest = client.get(f"{location}/events", headers={"last-event-id": str(ids[-2])}).text
    assert [line for line in rest.splitlines() if line.startswith("id: ")] == [f"id: {ids[-1]}"]


def test_an_unknown_job_is_a_404(client: httpx.Client) -> None:
    for path in ("/v1/jobs/job_none", "/v1/jobs/job_none/events"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_job")


def test_a_thousand_requests_at_32_at_once_are_all_right_and_batched(client: httpx.Client, stack: Stack) -> None:
    pictures = [(colour, picture(colour, noise=n)) for n in range(1, 12) for colour in LABELS]
    before = sample(client, "fovea_batch_size_sum"), sample(client, "fovea_batch_size_count")

    path = "/v1/models/colours/classify"
    replies = send_all(stack.port, path, [data for _, data in pictures], requests=1000, at_once=32)
    assert {reply.status for reply in replies} == {200}
    answered = {reply.request: reply.body["predictions"][0]["classes"][0]["label"] for reply in replies}
    assert answered == {n: pictures[n % len(pictures)][0] for n in range(1000)}
    images = sample(client, "fovea_batch_size_sum") - before[0]
    batches = sample(client, "fovea_batch_size_count") - before[1]
    assert images == 1000
    assert images / batches > 4


def test_metrics_show_each_stage_of_the_way(client: httpx.Client) -> None:
    client.post("/v1/models/colours/classify", content=picture("red"), headers=PNG)
    client.post("/v1/models/colours/classify", content=b"no", headers=PNG)
    for stage in ("wait", "queue", "fetch", "decode", "inference", "request"):
        assert sample(client, f"fovea_{stage}_seconds_count") > 0
    assert sample(client, "fovea_failures_total", code="not_an_image") > 0
    assert sample(client, "fovea_worker_provider", provider="CPUExecutionProvider") == 1


def sample(client: httpx.Client, name: str, **labels: str) -> float:
    text = client.get("/metrics").text
    return sum(
        found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
        if found.name == name and labels.items() <= found.labels.items()
    )


def test_readyz_tells_what_is_missing_and_what_each_worker_runs(client: httpx.Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["training"])
    (worker,) = answer.json()["workers"]
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert worker["slots"] >= 2


def test_openapi_shows_an_example_of_a_classification(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["Classification"]["example"]["model"] == "digits"
    assert "image/jpeg" in document["paths"]["/v1/models/{reference}/classify"]["post"]["requestBody"]["content"]
    assert client.get("/docs").status_code == 200


def test_the_request_id_reaches_the_workers_log(client: httpx.Client, stack: Stack) -> None:
    headers = {**PNG, "x-request-id": "find-me-17"}
    broken = client.post("/v1/models/colours/classify", content=picture("red")[:60], headers=headers)
    assert broken.status_code == 422
    stack.wait_until(lambda: "find-me-17" in stack.log("inference"), "the worker's log line", 5)
    stack.wait_until(lambda: "find-me-17" in stack.log("gateway"), "the gateway's log line", 5)
