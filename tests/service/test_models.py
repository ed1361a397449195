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

from models.card.blocks import CardPage
from models.card.render import write_page

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


def test_a_card_is_served_with_its_version_and_aliases(
    client: httpx.Client, two_versions: str, stack: Stack
) -> None:
    missing = client.get(f"/v1/models/{two_versions}/versions/1/card")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_card")
    assert "card.html" not in missing.text
    page = CardPage(two_versions, "a card", [])
    for version in (1, 2):
        write_page(stack.folder / "blobs" / "models" / two_versions / str(version), page)
    client.put(f"/v1/models/{two_versions}/aliases/production", json={"version": 2})
    served = [client.get(f"/v1/models/{two_versions}/versions/{version}/card") for version in (1, 2)]
    assert [f"{two_versions}, version 1</title>" in served[0].text, "production" in served[0].text] == [
        True,
        False,
    ]
    assert [f"{two_versions}, version 2</title>" in served[1].text, "production" in served[1].text] == [True, True]
    assert served[1].headers["content-security-policy"].startswith("default-src 'none'")
    markdown = client.get(f"/v1/models/{two_versions}/versions/2/card?format=md").text
    assert "**Version 2 (production)**" in markdown


def test_a_version_in_use_is_kept_and_one_that_is_not_can_be_deleted(
    client: httpx.Client, two_versions: str
) -> None:
    client.put(f"/v1/models/{two_versions}/aliases/production", json={"version": 1})
    for path in (f"/v1/models/{two_versions}", f"/v1/models/{two_versions}/versions/1"):
        refused = client.delete(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
        assert "production" in refused.json()["detail"]
    assert client.delete(f"/v1/models/{two_versions}/versions/2").status_code == 204
    answer = client.post(f"/v1/models/{two_versions}:2/classify", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_version")
    assert label(client, two_versions) == "red"


def test_a_version_in_use_is_deleted_by_force_with_its_aliases(
    client: httpx.Client, two_versions: str, stack: Stack
) -> None:
    for alias in ("production", "candidate"):
        client.put(f"/v1/models/{two_versions}/aliases/{alias}", json={"version": 1})
    assert client.delete(f"/v1/models/{two_versions}/versions/1?force=true").status_code == 204
    assert client.get(f"/v1/models/{two_versions}").json()["aliases"] == {}
    assert label(client, two_versions) == "blue"
    assert not list((stack.folder / "blobs" / "models" / two_versions / "1").glob("*"))


def test_a_rollback_goes_to_what_served_before_and_no_further(client: httpx.Client, two_versions: str) -> None:
    alias = f"/v1/models/{two_versions}/aliases/production"
    for version in (2, 1):
        client.put(alias, json={"version": version})
    assert label(client, two_versions) == "red"
    assert client.get(alias).json()["previous"] == 2
    back = client.post(f"{alias}/rollback")
    assert (back.status_code, back.json()["aliases"]) == (200, {"production": 2})
    assert label(client, two_versions) == "blue"
    again = client.post(f"{alias}/rollback")
    assert (again.status_code, again.json()["code"]) == (409, "no_earlier_version")
    shown = client.get(alias).json()
    assert (shown["model"], shown["alias"], shown["version"]) == (two_versions, "production", 2)
    assert shown["previous"] is None
    assert [move["version"] for move in shown["history"]] == [1, 2]
    assert shown["history"][0]["at"] < shown["history"][0]["rolled_back_at"]
    assert shown["history"][1]["rolled_back_at"] is None


def test_a_rollback_that_is_sent_again_goes_back_once(client: httpx.Client, two_versions: str) -> None:
    alias = f"/v1/models/{two_versions}/aliases/production"
    for version in (1, 2, 1):
        client.put(alias, json={"version": version})
    assert client.post(f"{alias}/rollback", json={"from": 1}).json()["aliases"] == {"production": 2}
    again = client.post(f"{alias}/rollback", json={"from": 1})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert client.get(alias).json()["version"] == 2


def test_a_rollback_to_a_version_that_cannot_be_loaded_is_refused(
    client: httpx.Client, two_versions: str, stack: Stack
) -> None:
    alias = f"/v1/models/{two_versions}/aliases/production"
    client.put(alias, json={"version": 2})
    stack.publish(f"models/{two_versions}/3/", two_versions)
    torn = stack.folder / "blobs" / "models" / two_versions / "3" / "model.onnx"
    torn.write_bytes(torn.read_bytes()[:-10])
    with stack.registry() as registry:
        registry.set_alias(two_versions, "production", 3)
        registry.set_alias(two_versions, "production", 1)
    refused = client.post(f"{alias}/rollback")
    assert (refused.status_code, refused.json()["code"]) == (409, "artifact_unusable")
    assert client.get(alias).json()["version"] == 1


def test_a_deleted_model_is_gone_with_its_files(client: httpx.Client, two_versions: str, stack: Stack) -> None:
    folder = stack.folder / "blobs" / "models" / two_versions
    assert folder.exists()
    client.put(f"/v1/models/{two_versions}/aliases/production", json={"version": 1})
    assert client.delete(f"/v1/models/{two_versions}?force=true").status_code == 204
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
        ("GET", "/v1/models/none/aliases/production", None, 404, "unknown_model"),
        ("GET", "/v1/models/colours/aliases/none", None, 404, "unknown_alias"),
        ("GET", "/v1/models/colours/aliases/latest", None, 422, "invalid_name"),
        ("POST", "/v1/models/colours/aliases/none/rollback", None, 404, "unknown_alias"),
        ("POST", "/v1/models/colours/aliases/none/rollback", {"to": 1}, 422, "invalid_request"),
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


def test_a_model_is_described_by_a_merge_patch(client: httpx.Client, two_versions: str) -> None:
    path = f"/v1/models/{two_versions}"

    def patch(**body: object) -> dict[str, object]:
        answer = client.patch(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == client.get(path).json()
        return {name: answer.json()[name] for name in ("description", "tags")}

    assert patch(description="Colours.\nTwo of them.", tags=["team:art", "art"]) == {
        "description": "Colours.\nTwo of them.", "tags": ["art", "team:art"],
    }  # fmt: skip
    assert patch(tags=["art"]) == {"description": "Colours.\nTwo of them.", "tags": ["art"]}
    assert patch() == {"description": "Colours.\nTwo of them.", "tags": ["art"]}
    for query in ("tag=art", "search=two+of", f"tag=art&search={two_versions}"):
        assert [model["name"] for model in client.get(f"/v1/models?{query}").json()["items"]] == [two_versions]
    assert client.get("/v1/models?tag=art&tag=other").json()["items"] == []
    assert patch(description=None, tags=None) == {"description": None, "tags": []}
    merge = {"content-type": "application/merge-patch+json"}
    assert client.patch(path, content=b'{"tags": ["x"]}', headers=merge).json()["tags"] == ["x"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"description": "x" * 2001}, "body.description"),
        ({"description": "a\u202eb"}, "body.description"),
        ({"tags": ["Art"]}, "body.tags.0"),
        ({"tags": [f"t{n}" for n in range(21)]}, "body.tags"),
        ({"tags": "art"}, "body.tags"),
        ({"name": "other"}, "body.name"),
    ],
)
def test_a_patch_that_is_wrong_names_the_field(
    client: httpx.Client, stack: Stack, body: dict[str, object], field: str
) -> None:
    answer = client.patch("/v1/models/colours", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    assert client.patch("/v1/models/nobody", json={}).status_code == 404
