"""The registry by REST: versions, aliases, downloads, over the real service."""

import io
import json
import sys
import zipfile
from collections.abc import Iterator

import httpx
import pytest
from support.colours import LABELS, picture
from support.stack import Stack

PNG = {"content-type": "image/png"}


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=20) as http:
        yield http


@pytest.fixture
def two_versions(stack: Stack, request: pytest.FixtureRequest) -> str:
    """A model of the test's own whose version 2 calls red `blue` and the reverse."""
    name = request.node.name.partition("[")[0][-40:].strip("_").replace("_", "-")
    stack.publish(f"models/{name}/1/", name)
    stack.publish(f"models/{name}/2/", name, labels=LABELS[::-1])
    return name


def label(client: httpx.Client, reference: str) -> str:
    answer = client.post(f"/v1/models/{reference}/classify?top_k=1", content=picture("red"), headers=PNG)
    found: str = answer.json()["predictions"][0]["classes"][0]["label"]
    return found


def test_an_alias_moves_what_a_name_means_at_once(client: httpx.Client, two_versions: str) -> None:
    assert label(client, two_versions) == "blue"
    for version, colour in [(1, "red"), (2, "blue"), (1, "red")]:
        answer = client.put(f"/v1/models/{two_versions}/aliases/production", json={"version": version})
        assert answer.json()["aliases"] == {"production": version}
        assert label(client, two_versions) == colour
        assert label(client, f"{two_versions}@production") == colour
        assert label(client, f"{two_versions}@latest") == "blue"
    assert client.delete(f"/v1/models/{two_versions}/aliases/production").status_code == 204
    assert label(client, two_versions) == "blue"


def test_a_version_shows_its_labels_and_manifest(client: httpx.Client, two_versions: str) -> None:
    version = client.get(f"/v1/models/{two_versions}/versions/2").json()
    assert version["labels"] == list(LABELS[::-1])
    assert version["manifest"]["preprocessing"]["fit"] == "squash"
    listed = client.get(f"/v1/models/{two_versions}/versions").json()["items"]
    assert [item["version"] for item in listed] == [2, 1]


def test_an_artifact_is_downloaded_whole(client: httpx.Client, two_versions: str) -> None:
    answer = client.get(f"/v1/models/{two_versions}/versions/1/artifact")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        assert len(archive.read("model.onnx")) == manifest["files"]["model.onnx"]["bytes"]


def test_a_version_in_use_is_kept_and_one_that_is_not_can_be_deleted(
    client: httpx.Client, two_versions: str
) -> None:
    client.put(f"/v1/models/{two_versions}/aliases/production", json={"version": 1})
    refused = client.delete(f"/v1/models/{two_versions}/versions/1")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert client.delete(f"/v1/models/{two_versions}/versions/2").status_code == 204
    answer = client.post(f"/v1/models/{two_versions}:2/classify", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_version")
    assert label(client, two_versions) == "red"


def test_a_deleted_model_is_gone_with_its_files(client: httpx.Client, two_versions: str, stack: Stack) -> None:
    folder = stack.folder / "blobs" / "models" / two_versions
    assert folder.exists()
    assert client.delete(f"/v1/models/{two_versions}").status_code == 204
    assert client.get(f"/v1/models/{two_versions}").json()["code"] == "unknown_model"
    assert not list(folder.glob("*/*"))


def test_models_are_listed_in_pages_and_searched(client: httpx.Client, two_versions: str) -> None:
    first = client.get("/v1/models?limit=1").json()
    second = client.get(f"/v1/models?limit=1&cursor={first['next_cursor']}").json()
    assert first["items"][0]["name"] < second["items"][0]["name"]
    found = client.get(f"/v1/models?search={two_versions[:12]}").json()["items"]
    assert [model["name"] for model in found] == [two_versions]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/models/none", None, 404, "unknown_model"),
        ("GET", "/v1/models/colours/versions/99", None, 404, "unknown_version"),
        ("GET", "/v1/models/colours/versions/one", None, 422, "invalid_request"),
        ("GET", "/v1/models?cursor=!!", None, 422, "invalid_cursor"),
        ("PUT", "/v1/models/colours/aliases/latest", {"version": 1}, 422, "invalid_name"),
        ("PUT", "/v1/models/colours/aliases/production", {"version": 99}, 404, "unknown_version"),
        ("PUT", "/v1/models/colours/aliases/production", {"version": 1, "x": 2}, 422, "invalid_request"),
        ("POST", "/v1/models/UPPER/versions", {"architecture": "lenet5"}, 422, "invalid_name"),
        ("POST", "/v1/models/m/versions", {"architecture": "nothing"}, 404, "unknown_architecture"),
        ("POST", "/v1/models/m/versions", {}, 422, "invalid_request"),
        ("DELETE", "/v1/models/none", None, 404, "unknown_model"),
        ("PATCH", "/v1/models", None, 405, "method_not_allowed"),
        ("GET", "/v1/nothing", None, 404, "not_found"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(
    client: httpx.Client, method: str, path: str, body: object, status: int, code: str
) -> None:
    answer = client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no file that can be opened and not read")
def test_an_artifact_of_which_a_file_cannot_be_read_breaks_off(
    client: httpx.Client, stack: Stack, two_versions: str
) -> None:
    """In the middle of a download no status can tell any more, but what arrives must not look whole."""
    folder = stack.folder / "blobs" / "models" / two_versions / "2"
    (folder / "unreadable").symlink_to("/proc/self/mem")
    with client.stream("GET", f"/v1/models/{two_versions}/versions/2/artifact") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    stack.wait_until(lambda: "cannot be read or written" in stack.log("gateway"), "the log line", 5)
