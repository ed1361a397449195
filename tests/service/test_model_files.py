"""`POST /v1/models/{m}/versions` with a form: what is taken, what is refused at once, and the whole way."""

import io
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from support.colours import picture
from support.model_files import LABELS, VIEW, onnx_file
from support.stack import Stack

from models.zoo.registry import build

PAGE = Path(__file__).parents[2] / "docs/teach.md"
PATH = "/v1/models/mine/versions"


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=20) as http:
        yield http


def send(
    client: httpx.Client,
    content: bytes | None = None,
    options: object = None,
    *,
    name: str = "net.onnx",
    headers: dict[str, str] | None = None,
    **parts: Any,
) -> httpx.Response:
    files: dict[str, Any] = {"file": (name, onnx_file() if content is None else content)} | parts
    if options is not None:
        files["options"] = (None, options if isinstance(options, str) else json.dumps(options))
    return client.post(PATH, files=files, headers=headers)


def checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save(build("lenet5", 3).state_dict(), buffer)
    return buffer.getvalue()


def uploads(stack: Stack) -> list[Path]:
    return [path for path in (stack.folder / "uploads").rglob("*") if path.is_file()]


def test_a_file_becomes_a_job_with_its_blob(client: httpx.Client, stack: Stack) -> None:
    answer = send(client, options={"labels": LABELS, "preprocessing": VIEW, "promote": "never"})
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    request = job["request"]
    assert (job["kind"], request["architecture"], request["weights"]) == ("publish", "onnx", "uploaded")
    assert request["upload"]["key"] == f"jobs/{job['id']}/upload"
    assert (request["upload"]["name"], request["upload"]["kind"]) == ("net.onnx", "onnx")
    blob = stack.folder / "blobs" / request["upload"]["key"]
    assert blob.read_bytes() == onnx_file()
    assert not uploads(stack)
    client.post(f"/v1/jobs/{job['id']}/cancel")


def test_labels_may_be_a_file_of_lines(client: httpx.Client) -> None:
    lines = "ant\r\nbee\ncrane\n".encode("utf-8-sig")
    answer = send(client, options={"preprocessing": "imagenet"}, labels=("labels.txt", lines))
    assert answer.json()["request"]["upload"]["labels"] == list(LABELS)
    assert answer.json()["request"]["upload"]["preprocessing"] == "imagenet"


def test_the_same_form_again_is_the_same_job(client: httpx.Client, stack: Stack) -> None:
    """Though each has a boundary of its own."""
    key = {"Idempotency-Key": "once"}
    first = send(client, options={"labels": LABELS}, headers=key).json()
    again = send(client, options={"labels": LABELS}, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    other = send(client, options={"labels": LABELS[::-1]}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    another = send(client, onnx_file(opset=16), options={"labels": LABELS}, headers=key)
    assert another.status_code == 409
    kept = [path.parent.name for path in (stack.folder / "blobs" / "jobs").glob("*/upload")]
    assert kept.count(first["id"]) == 1
    assert len(kept) == len(set(kept))


@pytest.mark.parametrize(
    ("content", "status", "code", "said"),
    [
        (b"", 400, "empty_body", "The file is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), 415, "unsupported_media_type", "as Keras writes it; export it with"),
        (b"\xff\xd8\xff\xe0" + bytes(100), 415, "unsupported_media_type", "it is a JPEG; expected an ONNX file"),
        (b"hello", 415, "unsupported_media_type", "it begins with b'hell'; expected an ONNX file"),
        (b"x", 415, "unsupported_media_type", "it begins with b'x'"),
    ],
)
def test_what_is_no_model_is_refused_at_once(
    client: httpx.Client, stack: Stack, content: bytes, status: int, code: str, said: str
) -> None:
    answer = send(client, content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert said in answer.json()["detail"]
    assert not uploads(stack)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{", "options: it is not JSON"),
        ("[1]", "options: got [1], expected an object of fields"),
        ({"label": ["a"]}, "options.label: there is no such field; did you mean labels?"),
        ({"labels": ["a", "a", "b"]}, "options.labels: 1 of them stand for more than one class ('a')"),
        (
            {"labels": ["a", "b\u202ec"]},
            "options.labels: number 2, 'b\\u202ec', holds a character",
        ),
        ({"labels": ["a"]}, "options.labels: got 1; expected 2 to"),
        ({"labels": 3}, "options.labels: got 3, expected a list of names, or 'imagenet'"),
        ({"preprocessing": {"mean": [0.5]}}, "options.preprocessing.mean.1: it is missing"),
        ({"preprocessing": {"height": 10**6}}, "options.preprocessing.height: got 1000000, expected a value less"),
        ({"licence": "MIT\u200b"}, "options.licence: it holds a character that is not seen, U+200B"),
        ({"architecture": "resnet18"}, "options.architecture: an ONNX file holds its network itself"),
    ],
)
def test_wrong_options_are_named(client: httpx.Client, options: object, said: str) -> None:
    answer = send(client, options=options)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert said.lower() in answer.json()["detail"].lower()
    assert answer.json()["errors"][0]["field"].startswith("options")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": LABELS}, "options.architecture: a checkpoint holds tensors and not their network"),
        ({"architecture": "lenet5"}, "options.labels: a checkpoint has no names of classes"),
        (
            {"architecture": "lenet5", "labels": LABELS, "values": "logits"},
            "options.values: this is for",
        ),
        ({"architecture": "convnet", "labels": LABELS, "architecture_params": {"x": 1}}, "no such parameter"),
    ],
)
def test_what_a_checkpoint_needs_is_asked_for(client: httpx.Client, options: object, said: str) -> None:
    answer = send(client, checkpoint(), options)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert said in answer.json()["detail"]
    unknown = send(client, checkpoint(), {"architecture": "lenet6", "labels": LABELS})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_architecture")


def test_parts_that_are_wrong_are_named(client: httpx.Client) -> None:
    for files, said in (
        ({"options": (None, "{}")}, "file: it is missing"),
        ({"file": (None, "text")}, "file: it is a text; expected a file"),
        ({"model": ("x", b"1")}, "model: there is no such part; the parts are file, labels, options"),
        ([("options", (None, "{}")), ("options", (None, "{}"))], "options: it is there twice"),
        ({"file": ("x", onnx_file()), "labels": ("l", b"\xff")}, "labels: it is not UTF-8 text"),
    ):
        answer = client.post(PATH, files=files)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
        assert said in answer.json()["detail"]
    both = send(client, options={"labels": LABELS}, labels=("l.txt", b"a\nb"))
    assert "labels: they are in the options as well" in both.json()["detail"]


def test_another_body_is_told_how_to_send_a_file(client: httpx.Client) -> None:
    for kind in ("application/octet-stream", "application/onnx", "application/x-www-form-urlencoded"):
        answer = client.post(PATH, content=onnx_file(), headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        assert "curl -F file=@model.onnx" in answer.json()["detail"]
    broken = client.post(PATH, content=b"--x", headers={"Content-Type": "multipart/form-data; boundary=y"})
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_body")


def test_json_is_for_weights_of_the_zoo_as_before(client: httpx.Client) -> None:
    answer = client.post(PATH, json={"architecture": "lenet6"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_architecture")
    assert client.post(PATH, json={}).status_code == 422
    assert client.get(PATH).status_code in (200, 404)
    assert client.put(PATH, content=b"x").status_code == 405
    strange = client.post(f"{PATH}?promote=never", files={"file": ("x", onnx_file())})
    assert (strange.status_code, strange.json()["errors"][0]["field"]) == (422, "query.promote")


def test_a_name_that_is_a_path_is_not_taken_for_one(client: httpx.Client) -> None:
    for name, kept in (
        ("../../etc/net.onnx", "net.onnx"),
        ("C:\\nets\\a.onnx", "a.onnx"),
        ("a\u202eb", "model.onnx"),
    ):
        job = send(client, name=name, options={"labels": LABELS}).json()
        assert job["request"]["upload"]["name"] == kept
        client.post(f"/v1/jobs/{job['id']}/cancel")


def test_what_versions_of_graphs_cannot_be_is_told_at_once(client: httpx.Client, stack: Stack) -> None:
    shown = client.get("/v1/architectures/onnx")
    assert (shown.status_code, shown.json()["code"]) == (404, "unknown_architecture")
    assert "uploaded ONNX files have instead of an architecture" in shown.json()["detail"]
    manifest = stack.publish("models/graphs/1/", "drawn").manifest
    with stack.registry() as registry:
        registry.add_version(
            "graphs", artifact="models/graphs/1", manifest={**manifest, "architecture": "onnx"}, size_bytes=1
        )
        registry.set_alias("graphs", "production", 1)
    asked = {"model": "on", "dataset": "builtin:digits", "architecture": "lenet5"}
    for reference in ("graphs", "graphs:1", "graphs@production"):
        answer = client.post("/v1/finetunes", json={**asked, "weights": reference})
        assert answer.status_code == 422, answer.text
        assert "graphs:1 was uploaded as an ONNX file, which can be served but" in answer.json()["detail"]


def test_too_large_a_file_is_refused_while_it_comes(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {"FOVEA_MAX_MODEL_BYTES": "10000"})
    try:
        stack.start("gateway")
        with httpx.Client(base_url=stack.url, timeout=20) as client:
            for size in (20_000, 20_000_000):
                answer = send(client, onnx_file() + bytes(size))
                assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert send(client, options={"labels": LABELS}).status_code == 202
            assert not uploads(stack)
    finally:
        stack.stop()


LABEL = re.compile(r"^(\S+) ([\d.e-]+)$", re.MULTILINE)


def alone(folder: Path) -> tuple[str, float]:
    """The printed lines of the documentation, in a folder where there is no Fovea: no `.pth` files are read."""
    (program,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        if "model.onnx" in block
    ]
    packages = sysconfig.get_paths()["purelib"]
    (folder / "alone.py").write_text(
        f"import sys\nsys.path.append({packages!r})\n"
        "try:\n    import models\nexcept ImportError:\n    pass\nelse:\n    sys.exit('Fovea is there')\n" + program
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", "alone.py"],
        cwd=folder,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = LABEL.search(done.stdout)
    assert found
    return found[1], float(found[2])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_a_form_to_answers_and_to_a_file_that_needs_no_fovea(tmp_path: Path) -> None:
    """curl sends it in one line; the service answers; the artifact that is downloaded gives the same class alone,
    and comes back as a version without a word beside it."""
    stack = Stack(tmp_path / "data")
    stack.folder.mkdir()
    (tmp_path / "model.onnx").write_bytes(onnx_file())
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    try:
        stack.start("gateway", "inference", "training")
        curl = shutil.which("curl")
        if curl:
            sent = subprocess.run(
                [
                    curl, "-s", "-F", "file=@model.onnx", "-F", "labels=@labels.txt",
                    "-F", 'options={"preprocessing": "imagenet"}', f"{stack.url}{PATH}",
                ],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
            job = json.loads(sent.stdout)
        with httpx.Client(base_url=stack.url, timeout=30) as client:
            if not curl:
                job = send(client, options={"labels": LABELS, "preprocessing": "imagenet"}).json()
            ended = wait(stack, client, job["id"])
            assert ended["result"]["promoted"]
            blob = stack.folder / "blobs" / job["request"]["upload"]["key"]
            stack.wait_until(lambda: not blob.exists(), "the end of the upload")
            image = picture("green")
            stack.wait_until(lambda: stack.workers() >= 1, "an inference worker")
            answer = client.post("/v1/models/mine/classify", content=image, headers={"Content-Type": "image/png"})
            best = answer.json()["predictions"][0]["classes"][0]
            there = tmp_path / "there"
            archive = client.get("/v1/models/mine/versions/1/artifact").content
            zipfile.ZipFile(io.BytesIO(archive)).extractall(there)
            (there / "photo.jpg").write_bytes(image)
            label, probability = alone(there)
            assert label == best["label"]
            assert probability == pytest.approx(best["probability"], abs=1e-4)
            card = client.get("/v1/models/mine/versions/1/card?format=md").text
            assert "an uploaded ONNX file" in card
            again = send(client, (there / "model.onnx").read_bytes()).json()
            assert wait(stack, client, again["id"])["result"]["version"] == 2
    finally:
        stack.stop()


def wait(stack: Stack, client: httpx.Client, job: str) -> dict[str, Any]:
    def state() -> str:
        return str(client.get(f"/v1/jobs/{job}").json()["state"])

    stack.wait_until(lambda: state() in ("succeeded", "failed"), "the job", 240)
    ended: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
    assert ended["state"] == "succeeded", ended["error"]
    return ended
