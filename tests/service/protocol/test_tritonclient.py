"""Triton's own clients against the real service: HTTP and gRPC, synchronous and asyncio."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.colours import SIZE, picture
from support.environments import make_environment
from support.stack import Stack

pytestmark = pytest.mark.slow
SUPPORT = Path(__file__).parents[2] / "support"
TRANSPORTS = ("http", "http.aio", "grpc", "grpc.aio")
RED = "0.992994:0:red"

Calls = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def tritonclient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tritonclient")
    return make_environment(folder, "--require-hashes", "-r", str(SUPPORT / "tritonclient.txt"))


@pytest.fixture(scope="module")
def imagenet(service: Stack, test_data: Path) -> str:
    """A model by published weights."""
    service.environment["FOVEA_WEIGHTS_DIR"] = str(test_data / "weights")
    service.start_process("training")
    service.wait_until(lambda: service.workers() == 2, "the workers")
    asked = {"architecture": "mobilenet_v1_025", "weights": "imagenet"}
    job = httpx.post(f"{service.url}/v1/models/imagenet/versions", json=asked).json()["id"]

    def is_published() -> bool:
        state = httpx.get(f"{service.url}/v1/jobs/{job}").json()["state"]
        return bool(state == "succeeded")

    service.wait_until(is_published, "the weights to be published", 120)
    return "imagenet"


@pytest.fixture(params=TRANSPORTS)
def calls(request: pytest.FixtureRequest, service: Stack, tritonclient: Path) -> Calls:
    """Has the client do what it is given, in order, and gives its answers."""
    transport: str = request.param

    def perform(*jobs: dict[str, Any], key: str | None = None) -> list[Any]:
        port = service.environment["FOVEA_GRPC_PORT"] if transport.startswith("grpc") else service.port
        asked = {"address": f"127.0.0.1:{port}", "key": key, "jobs": jobs}
        command = [str(tritonclient), str(SUPPORT / "tritonclient_calls.py"), transport]
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    return perform


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("images") / "red.png"
    path.write_bytes(picture("red"))
    return str(path)


def infer(model: str = "colours", **options: Any) -> dict[str, Any]:
    return {"call": "infer", "model": model, **options}


def classes(count: int) -> dict[str, dict[str, int]]:
    return {"probabilities": {"class_count": count}}


def test_photographs_have_the_labels_and_probabilities_of_our_own_api(
    calls: Calls, service: Stack, imagenet: str, test_data: Path
) -> None:
    photographs = sorted((test_data / "imagenet/samples").glob("*.JPEG"))
    assert len(photographs) == 100
    expected = []
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for photograph in photographs:
            headers = {"content-type": "image/jpeg"}
            answer = client.post(
                f"/v1/models/{imagenet}/classify", content=photograph.read_bytes(), headers=headers
            )
            expected.append(answer.json()["predictions"][0]["classes"])
    batches = [list(map(str, photographs[at : at + 20])) for at in range(0, 100, 20)]
    named = calls(*(infer(imagenet, images=batch, outputs=classes(5)) for batch in batches))
    whole = calls(*(infer(imagenet, images=batch) for batch in batches))
    texts = [row for answer in named for row in answer["outputs"]["probabilities"]]
    tensors = [row for answer in whole for row in answer["outputs"]["probabilities"]]
    assert [len(row) for row in tensors] == [1000] * 100
    for best, row, probabilities in zip(expected, texts, tensors, strict=True):
        found = [text.split(":", 2) for text in row]
        assert [(int(index), label) for _, index, label in found] == [(c["index"], c["label"]) for c in best]
        assert [float(value) for value, *_ in found] == pytest.approx([c["probability"] for c in best], abs=1e-5)
        named_here = [probabilities[c["index"]] for c in best]
        assert named_here == pytest.approx([c["probability"] for c in best], abs=1e-5)


def test_all_outputs_come_where_none_is_named(calls: Calls, imagenet: str, test_data: Path) -> None:
    photograph = str(min((test_data / "imagenet/samples").glob("*.JPEG")))
    (answer,) = calls(infer(imagenet, images=[photograph], request_id="mine"))
    outputs = answer["outputs"]
    assert {name: len(rows[0]) for name, rows in outputs.items()} == {
        "probabilities": 1000,
        "logits": 1000,
        "embedding": 256,
    }
    assert sum(outputs["probabilities"][0]) == pytest.approx(1, abs=1e-4)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("imagenet", "1", "mine")


def test_the_server_and_its_models_are_described(calls: Calls) -> None:
    live, ready, server, model, is_ready, is_not = calls(
        {"call": "is_server_live"},
        {"call": "is_server_ready"},
        {"call": "get_server_metadata"},
        {"call": "get_model_metadata", "given": ["colours@latest"]},
        {"call": "is_model_ready", "given": ["colours"]},
        {"call": "is_model_ready", "given": ["nothing"]},
    )
    assert (live, ready, is_ready, is_not) == (True, True, True, False)
    assert server["name"] == "fovea"
    assert {"statistics", "classification", "binary_tensor_data"} <= set(server["extensions"])
    assert (model["name"], model["versions"]) == ("colours@latest", ["1"])
    (tensor,) = model["inputs"]
    assert (tensor["name"], tensor["datatype"], [int(n) for n in tensor["shape"]]) == ("image", "BYTES", [-1, 1])
    assert [output["name"] for output in model["outputs"]] == ["probabilities", "logits"]


@pytest.mark.parametrize("model", ["colours", "colours@latest", "colours:1"])
def test_a_model_is_called_by_any_reference(calls: Calls, red: str, model: str) -> None:
    (answer,) = calls(infer(model, images=[red], outputs=classes(1)))
    assert answer["outputs"]["probabilities"] == [[RED]]


@pytest.mark.parametrize("binary", [True, False])
def test_prepared_pixels_are_taken_as_they_are(calls: Calls, binary: bool) -> None:
    (answer,) = calls(infer(pixels=[255, [2, SIZE, SIZE, 3]], binary=binary))
    assert answer["outputs"]["logits"] == [[8.0, 8.0, 8.0]] * 2


def test_encoded_images_may_have_one_dimension(calls: Calls, red: str) -> None:
    (answer,) = calls(infer(images=[red, red], flat=True, outputs=classes(1), model_version="1"))
    assert answer["outputs"]["probabilities"] == [[RED]] * 2


def test_errors_arrive_in_our_words(calls: Calls, red: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("No picture at all.")
    unknown, missing, nothing, shape, output = calls(
        infer("nothing", images=[red]),
        infer(images=[red], model_version="7"),
        infer(images=[str(text)]),
        infer(pixels=[0, [1, 5, 5, 3]]),
        infer(images=[red], outputs={"colours": {}}),
    )
    assert unknown["error"] == "There is no model 'nothing'."
    assert missing["error"] == "There is no version 'colours:7'."
    assert "expected a JPEG, PNG" in nothing["error"]
    assert f"expected [n, {SIZE}, {SIZE}, 3], prepared pixels" in shape["error"]
    assert "'colours'; this version gives probabilities, logits" in output["error"]
    statuses = {answer["status"] for answer in (unknown, missing)}
    assert statuses <= {"404", "StatusCode.NOT_FOUND"}


def test_timeout_and_priority_are_honoured(calls: Calls, red: str) -> None:
    late, first = calls(infer(images=[red], timeout=1), infer(images=[red], priority=1, timeout=20_000_000))
    assert late["error"] == "No answer within 1e-06 s."
    assert first["outputs"]["probabilities"][0][0] == pytest.approx(0.992994, abs=1e-5)


def test_the_example_of_the_page_works(service: Stack, tritonclient: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/protocol.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    samples = tmp_path / "data/samples"
    samples.mkdir(parents=True)
    (samples / "digit-7-0.png").write_bytes(picture("red"))
    for here, there in (("localhost:8000", f"localhost:{service.port}"), ('"digits"', '"colours"')):
        assert here in example
        example = example.replace(here, there)
    done = subprocess.run(
        [str(tritonclient), "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert f"[[b'{RED}' b'" in done.stdout, done.stderr


def test_what_tritons_tools_read_by_http(service: Stack, tritonclient: Path, red: str) -> None:
    asked = {
        "address": f"127.0.0.1:{service.port}",
        "jobs": [
            infer(images=[red]),
            {"call": "get_model_config", "given": ["colours"]},
            {"call": "get_inference_statistics", "given": ["colours"]},
            {"call": "get_model_repository_index"},
        ],
    }
    command = [str(tritonclient), str(SUPPORT / "tritonclient_calls.py"), "http"]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
    _, config, statistics, index = json.loads(done.stdout)
    assert config["max_batch_size"] == 64
    (stats,) = statistics["model_stats"]
    assert (stats["name"], stats["version"]) == ("colours", "1")
    assert stats["inference_count"] >= stats["execution_count"] >= 1
    assert {"name": "colours", "version": "1", "state": "READY", "reason": ""} in index
