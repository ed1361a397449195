"""`/v2` by REST, against the real service."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from support.colours import LABELS, SIZE, picture
from support.gateways import Gateways
from support.stack import Stack

from service.intake import PIECE_BYTES

INFER = "/v2/models/colours/infer"
HEADER_LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(service: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=20) as http:
        yield http


def tensor(datatype: str = "BYTES", shape: tuple[int, ...] = (1, 1), **more: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": datatype, "shape": list(shape), **more}


def body(*tensors: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(tensors), **more}


def text(colour: str) -> str:
    return base64.b64encode(picture(colour)).decode()


def named(count: int = 1, output: str = "probabilities", **more: Any) -> list[dict[str, Any]]:
    return [{"name": output, "parameters": {"classification": count, **more}}]


def binary(document: dict[str, Any], content: bytes, size: int | None = None) -> dict[str, Any]:
    """What httpx is given to send JSON with a tensor behind it; `size` is what the JSON says of that."""
    parameters = {"binary_data_size": len(content) if size is None else size}
    head = json.dumps(
        body({**document["inputs"][0], "parameters": parameters}, **without_inputs(document))
    ).encode()
    return {"content": head + content, "headers": {HEADER_LENGTH: str(len(head))}}


def without_inputs(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "inputs"}


def elements(*images: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def labels(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [found.split(":")[2] for found in answer.json()["outputs"][0]["data"]]


def test_an_image_is_sent_in_json_as_base64(client: httpx.Client) -> None:
    """As MLServer's clients do, and flat or nested."""
    sent = {"data": [text("green")], "parameters": {"content_type": "base64"}}
    for shape, data in (((1, 1), [[text("green")]]), ((1,), [text("green")]), ((1, 1), [text("green")])):
        asked = body(tensor(shape=shape, **{**sent, "data": data}), outputs=named())
        assert labels(client.post(INFER, json=asked)) == ["green"]


def test_images_of_a_tensor_are_answered_in_their_order(client: httpx.Client) -> None:
    asked = body(tensor(shape=(3, 1)), outputs=named())
    images = [picture(colour) for colour in LABELS]
    assert labels(client.post(INFER, **binary(asked, elements(*images)))) == list(LABELS)
    in_json = body(tensor(shape=(3, 1), data=[text(colour) for colour in LABELS]), outputs=named())
    assert labels(client.post(INFER, json=in_json)) == list(LABELS)


def test_a_bare_image_is_a_body_of_its_own(client: httpx.Client) -> None:
    """With `Inference-Header-Content-Length: 0`, as curl sends it."""
    answer = client.post(INFER, content=picture("blue"), headers={HEADER_LENGTH: "0"}).json()
    assert [(output["name"], output["shape"]) for output in answer["outputs"]] == [
        ("probabilities", [1, 3]),
        ("logits", [1, 3]),
    ]
    assert np.argmax(answer["outputs"][0]["data"]) == LABELS.index("blue")
    assert answer["parameters"] == {"provider": "CPUExecutionProvider", "precision": "float32"}


def test_an_image_that_is_passed_on_while_it_arrives_is_classified(client: httpx.Client) -> None:
    large = picture("red", size=(600, 600), form="BMP")
    assert len(large) > PIECE_BYTES
    asked = body(tensor(shape=(2,)), outputs=named())
    assert labels(client.post(INFER, **binary(asked, elements(large, picture("green"))))) == ["red", "green"]


@pytest.mark.parametrize("nested", [True, False])
def test_pixels_are_sent_as_numbers(client: httpx.Client, nested: bool) -> None:
    pixels = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    pixels[0, ..., 1] = pixels[1, ..., 2] = 200
    data = pixels.tolist() if nested else pixels.ravel().tolist()
    asked = body(tensor("UINT8", pixels.shape, data=data), outputs=named())
    assert labels(client.post(INFER, json=asked)) == ["green", "blue"]


def test_pixels_are_sent_as_they_are(client: httpx.Client) -> None:
    pixels = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    for place in range(3):
        pixels[place, ..., place] = 255
    asked = body(tensor("UINT8", pixels.shape), outputs=[{"name": "logits"}])
    answer = client.post(INFER, **binary(asked, pixels.tobytes())).json()
    assert answer["outputs"][0]["shape"] == [3, 3]
    assert answer["outputs"][0]["data"] == [8, 0, 0, 0, 8, 0, 0, 0, 8]


def test_outputs_are_sent_behind_the_json_where_that_is_asked_for(client: httpx.Client) -> None:
    outputs = [{"name": "logits", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    asked = body(
        tensor(data=[text("red")]), outputs=outputs, parameters={"binary_data_output": True}, id="number 7"
    )
    answer = client.post(INFER, json=asked)
    length = int(answer.headers[HEADER_LENGTH])
    head = json.loads(answer.content[:length])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert (head["model_name"], head["model_version"], head["id"]) == ("colours", "1", "number 7")
    logits, probabilities = head["outputs"]
    assert len(logits["data"]) == 3
    assert probabilities["parameters"] == {"binary_data_size": 12}
    values = np.frombuffer(answer.content[length:], "<f4")
    expected = np.exp(logits["data"]) / np.exp(logits["data"]).sum()
    assert values == pytest.approx(expected, abs=1e-6)


def test_classes_are_named_with_the_value_of_the_output_that_they_are_asked_of(client: httpx.Client) -> None:
    outputs = named(2) + named(9, "logits")
    answer = client.post(INFER, json=body(tensor(data=[text("red")]), outputs=outputs)).json()
    probabilities, logits = answer["outputs"]
    assert (probabilities["datatype"], probabilities["shape"], logits["shape"]) == ("BYTES", [1, 2], [1, 3])
    assert probabilities["data"][0] == "0.992994:0:red"
    assert logits["data"][0] == "6.901961:0:red"
    binary_answer = client.post(INFER, json=body(tensor(data=[text("red")]), outputs=named(1, binary_data=True)))
    length = int(binary_answer.headers[HEADER_LENGTH])
    assert binary_answer.content[length:] == elements(b"0.992994:0:red")


def test_a_version_is_asked_for_by_its_number(client: httpx.Client) -> None:
    asked = body(tensor(data=[text("red")]), outputs=named())
    assert labels(client.post("/v2/models/colours/versions/1/infer", json=asked)) == ["red"]
    for path in ("/v2/models/colours@latest/versions/1", "/v2/models/colours/versions/first"):
        answer = client.post(f"{path}/infer", json=asked)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_reference")


def test_a_precision_can_be_asked_for(client: httpx.Client, service: Stack) -> None:
    service.publish("models/precise/1/", "precise", variants={"int8": True})
    asked = body(tensor(data=[text("red")]), parameters={"precision": "int8"}, outputs=named())
    answer = client.post("/v2/models/precise/infer", json=asked)
    assert answer.json()["parameters"]["precision"] == "int8"
    refused = client.post(INFER, json=asked)
    assert (refused.status_code, refused.json()["code"]) == (409, "precision_unavailable")


def test_one_image_that_fails_fails_the_request_and_is_named(client: httpx.Client) -> None:
    """A tensor has no place for errors beside values."""
    broken = picture("red", form="JPEG")[:300]
    for second, status, code in ((b"text", 400, "not_an_image"), (broken, 422, "image_unreadable")):
        asked = body(tensor(shape=(2, 1)), outputs=named())
        answer = client.post(INFER, **binary(asked, elements(picture("red"), second)))
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["error"].startswith("Element 1 of 2: ")


def wrong(**change: Any) -> dict[str, Any]:
    return body(tensor(**{"data": [text("red")], **change}))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "body.inputs: it is missing"),
        ({"inputs": []}, "got 0 tensors, expected one, 'image'"),
        (wrong(name="x"), "body.inputs.0.name: got 'x', expected 'image'"),
        (wrong(datatype="FP32"), "got 'FP32', expected BYTES (encoded images) or UINT8 (prepared pixels)"),
        (wrong(shape=[1, 2]), "got [1, 2], expected [n] or [n, 1], encoded images, n from 1"),
        (wrong(shape=[0]), "got [0], expected [n]"),
        (wrong(shape=[-1, 1]), "got [-1, 1], expected [n]"),
        (wrong(shape=[2, 1]), "the tensor's data has 1 elements; its shape says 2"),
        (wrong(data=None), "the input 'image' has no `data`"),
        (wrong(data=[7]), "element 0 of the data is not base64"),
        (wrong(data=["%"]), "element 0 of the data is not base64"),
        (wrong(datatype="UINT8", shape=[1, 1, 1, 3], data=[0, 0, 0]), "prepared pixels, n from 1"),
        (
            wrong(datatype="UINT8", shape=[1, SIZE, SIZE, 3], data=[256]),
            "something else than whole numbers from 0 to 255",
        ),
        (wrong(datatype="UINT8", shape=[1, SIZE, SIZE, 3], data=[0.5]), "something else than whole numbers"),
        (
            wrong(datatype="UINT8", shape=[1, SIZE, SIZE, 3], data=[1]),
            "the tensor has 1 bytes; its shape says 3072",
        ),
        (wrong(parameters={"shared_memory_region": "x"}), "sequences and shared memory are not supported"),
        (wrong(parameters={"binary_data_size": 3}), "the header Inference-Header-Content-Length is missing"),
        ({**wrong(), "parameters": {"sequence_id": 3}}, "sequences and shared memory are not supported"),
        ({**wrong(), "parameters": {"timeout": -1}}, "got -1, expected a whole number of microseconds"),
        ({**wrong(), "parameters": {"priority": "high"}}, "got 'high', expected a whole number"),
        ({**wrong(), "parameters": {"precision": "int4"}}, "got 'int4', expected one of auto, float32"),
        ({**wrong(), "outputs": [{"name": "classes"}]}, "got 'classes'; this version gives probabilities, logits"),
        ({**wrong(), "outputs": [{"name": "logits"}, {"name": "logits"}]}, "'logits' is asked for twice"),
        ({**wrong(), "outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]}, "expected true or false"),
        ({**wrong(), "id": "x" * 300}, "a text that is no image has more than 256 bytes"),
    ],
)
def test_what_is_wrong_is_told(client: httpx.Client, asked: dict[str, Any], told: str) -> None:
    answer = client.post(INFER, json=asked)
    assert answer.status_code in (400, 422), answer.text
    assert told in answer.json()["detail"]
    assert answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "size", "told"),
    [
        (elements(b"abc")[:-1], None, "the last element of the tensor ends 1 bytes too early"),
        (elements(picture("red")) + b"\0\0", None, "the tensor has more than the 1 elements of its shape"),
        (elements(picture("red")), 9, "bytes follow the JSON; its `binary_data_size` says 9"),
        (b"", None, "the tensor has 0 elements; its shape says 1"),
        (elements(b""), None, "an empty file"),
        (b"\xff\xff\xff\xff", None, "ends 4294967295 bytes too early"),
    ],
)
def test_a_tensor_that_is_not_what_its_shape_says_is_refused(
    client: httpx.Client, content: bytes, size: int | None, told: str
) -> None:
    answer = client.post(INFER, **binary(body(tensor()), content, size))
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "70000", "1e3", "\u0664".encode()])
def test_a_header_length_that_cannot_be_is_refused(client: httpx.Client, length: str | bytes) -> None:
    answer = client.post(INFER, content=b"{}", headers=[(HEADER_LENGTH, length)])  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


def test_a_body_that_is_shorter_than_its_header_says_is_refused(client: httpx.Client) -> None:
    answer = client.post(INFER, content=b"{}", headers={HEADER_LENGTH: "12"})
    assert "it has 2 bytes; its JSON alone has 12" in answer.json()["error"]
    answer = client.post(INFER, content=b"{}x", headers={HEADER_LENGTH: "3"})
    assert "its first 3 bytes are not JSON" in answer.json()["error"]


def test_who_sends_a_bare_image_without_its_header_is_told_which(client: httpx.Client) -> None:
    answer = client.post(INFER, content=b"no JSON")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert answer.json()["error"].endswith("needs the header Inference-Header-Content-Length: 0.")


def test_a_compressed_body_is_refused(client: httpx.Client) -> None:
    answer = client.post(INFER, content=b"x", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (415, "The body is gzip; send it uncompressed.")


def test_too_many_images_and_numbers_are_refused(client: httpx.Client) -> None:
    answer = client.post(INFER, **binary(body(tensor(shape=(65, 1))), b""))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_images")
    numbers = body(tensor("UINT8", (1, SIZE, SIZE, 3), data=[255] * 2**20))
    answer = client.post(INFER, json=numbers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "send pixels behind the JSON" in answer.json()["error"]


def test_a_timeout_is_honoured(client: httpx.Client) -> None:
    asked = body(tensor(data=[text("red")]), parameters={"timeout": 1})
    answer = client.post(INFER, json=asked)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")


def test_an_unknown_model_is_told_by_every_call(client: httpx.Client) -> None:
    for path in ("", "/ready", "/config", "/stats"):
        answer = client.get(f"/v2/models/nothing{path}")
        assert (answer.status_code, answer.json()["error"]) == (404, "There is no model 'nothing'.")
    assert client.get("/v2/models/colours/ready").json() == {"name": "colours", "ready": True}
    assert client.get("/v2/nothing").json()["error"] == "GET /v2/nothing: Not Found"
    assert "error" not in client.get("/v1/nothing").json()


def test_statistics_count_what_was_asked_by_whatever_protocol(client: httpx.Client, service: Stack) -> None:
    service.publish("models/counted/1/", "counted")
    for _ in range(2):
        assert client.post("/v1/models/counted/classify", content=picture("red")).status_code == 200
    asked = body(tensor(shape=(3, 1), data=[text("red")] * 3), outputs=named())
    assert client.post("/v2/models/counted/infer", json=asked).status_code == 200
    broken = body(tensor(data=[base64.b64encode(picture("red")[:60]).decode()]))
    assert client.post("/v2/models/counted/infer", json=broken).status_code == 422
    (stats,) = client.get("/v2/models/counted/stats").json()["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("counted", "1", 5)
    assert stats["execution_count"] == sum(batch["compute_infer"]["count"] for batch in stats["batch_stats"])
    found = stats["inference_stats"]
    assert (found["success"]["count"], found["fail"]["count"]) == (3, 1)
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert found[stage]["count"] == 3
        assert found[stage]["ns"] > 0
    assert found["cache_hit"] == found["cache_miss"] == {"count": 0, "ns": 0}
    assert stats in client.get("/v2/models/stats").json()["model_stats"]


def test_health_needs_no_key_and_says_when_there_is_no_worker(gateways: Gateways) -> None:
    with httpx.Client(base_url=gateways.urls[0], timeout=20) as public:
        assert public.get("/v2/health/live").json() == {"live": True}
        ready = public.get("/v2/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"ready": False})
        refused = public.get("/v2")
        assert (refused.status_code, "needs an API key" in refused.json()["error"]) == (401, True)
        _, key = gateways.key("classify")
        assert public.get("/v2", headers=key).json()["name"] == "fovea"
