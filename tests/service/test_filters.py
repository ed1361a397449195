"""What a version's network sees, by REST: facts with links, pictures that may be kept, and clear words without."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.command import command_against
from support.stack import Stack

from models.artifact import read_manifest, write_manifest
from models.filters.files import FACTS
from models.filters.record import kept
from storage.blobs import BlobStore
from storage.database import open_database
from storage.registry import ModelRegistry

PICTURES = {"kernels.png": b"\x89PNG kernels", "1-first.webp": b"RIFF patches"}
LAYER = {
    "name": "first", "picture": "1-first.webp", "kernel": [3, 3], "channels": 8, "map": [9, 9], "step": [2, 2],
    "receptive_field": [5, 5], "gated": False, "cut": [5, 5], "grid": {"filters_across": 4},
    "filters": [{"filter": 3, "patches": [{"image": "ant/1.jpg", "activation": 1.5}]}],
}  # fmt: skip
FILTERS = {
    "kernels": {
        "picture": "kernels.png", "layer": "first", "count": 8, "shown": 8, "channels": 3, "kernel": [3, 3],
        "stride": [2, 2], "largest": [1.0],
    },
    "images": {"shown": 24, "of": 100, "part": "validation"},
    "layers": [LAYER],
    "left_out": [],
}  # fmt: skip
PATH = "/v1/models/seeing/versions/1/filters"


@pytest.fixture(scope="module", autouse=True)
def seeing(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The version that every installation has, with what was found of its filters."""
    folder = tmp_path_factory.mktemp("seeing") / "artifact"
    blobs = BlobStore(f"file://{stack.folder / 'blobs'}")
    database = open_database(stack.database_url)
    registry = ModelRegistry(database)
    shutil.copytree(stack.folder / "blobs" / registry.resolve("colours").artifact, folder)
    finding = kept(folder, json.loads(json.dumps(FILTERS)), PICTURES)
    before = read_manifest(folder)
    findings = {finding.name: finding.facts}
    manifest = write_manifest(folder, dataclasses.replace(before, model="seeing", findings=findings))
    blobs.put_folder("models/seeing/1", folder)
    registry.add_version("seeing", artifact="models/seeing/1", manifest=manifest.to_dict(), size_bytes=1)
    database.close()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=20) as http:
        yield http


def test_the_facts_come_with_the_version_and_links_to_the_pictures(client: httpx.Client) -> None:
    found = client.get(PATH).json()
    assert (found["model"], found["version"], found["images"]["shown"]) == ("seeing", 1, 24)
    assert found["layers"][0]["filters"] == LAYER["filters"]
    for shown in (found["kernels"], *found["layers"]):
        answer = client.get(shown["url"])
        assert answer.content == PICTURES[shown["picture"]]
        assert answer.headers["content-type"] == f"image/{shown['picture'].rpartition('.')[2]}"
        assert answer.headers["cache-control"] == "private, immutable, max-age=31536000"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_patches_are_in_the_artifact_and_not_in_the_manifest(client: httpx.Client, stack: Stack) -> None:
    facts = client.get("/v1/models/seeing/versions/1").json()["manifest"]["findings"]["filters"]
    assert "filters" not in facts["layers"][0]
    assert "ant/1.jpg" in (stack.folder / "blobs" / "models/seeing/1" / FACTS).read_text()


def test_an_address_without_the_content_is_asked_again_and_spares_the_body(client: httpx.Client) -> None:
    first = client.get(f"{PATH}/kernels.png")
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get(f"{PATH}/kernels.png", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(f"{PATH}/kernels.png", headers={"if-none-match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize(
    "path",
    [
        f"{PATH}/other.png",
        f"{PATH}/filters.json",
        f"{PATH}/..%2Fmanifest.json",
        f"{PATH}/..%2f..%2fmodel.png",
        f"{PATH}/{'x' * 300}.png",
        f"{PATH}/kernels.png?sha256={'0' * 64}",
        "/v1/models/colours/versions/1/filters",
        "/v1/models/colours/versions/1/filters/kernels.png",
    ],
)
def test_what_is_not_there_is_told(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] in ("unknown_filters", "not_found")


def test_a_version_that_nobody_looked_at_says_so(client: httpx.Client) -> None:
    answer = client.get("/v1/models/colours/versions/1/filters")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_filters")
    assert "train or publish it again" in answer.json()["detail"]
    assert client.get("/v1/models/colours/versions/99/filters").json()["code"] == "unknown_version"


def test_a_sha256_that_is_none_is_refused(client: httpx.Client) -> None:
    answer = client.get(f"{PATH}/kernels.png?sha256=short")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_the_client_has_facts_and_pictures(stack: Stack) -> None:
    from fovea_client import Fovea, NotFound

    with Fovea(url=stack.url) as fovea:
        found = fovea.models.filters("seeing")
        assert found.pictures == ("kernels.png", "1-first.webp")
        assert fovea.models.filters_picture("seeing", "1-first.webp") == PICTURES["1-first.webp"]
        with pytest.raises(NotFound, match="train or publish it again"):
            fovea.models.filters("colours", 1)


def test_the_command_writes_facts_and_pictures_into_a_folder(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fovea = command_against(stack.url, capsys, monkeypatch)
    said = fovea("models", "filters", "seeing:1", "--out", tmp_path / "seen")
    assert "first: 8 kernels of 3x3" in said.out
    assert "24 of 100 validation images" in said.out
    assert {path.name: path.read_bytes() for path in (tmp_path / "seen").glob("*.[pw]*")} == PICTURES
    assert json.loads((tmp_path / "seen" / "filters.json").read_text())["layers"][0]["name"] == "first"
    assert json.loads(fovea("models", "filters", "seeing", "--json").out)["version"] == 1


def test_the_asynchronous_client_has_them_too(stack: Stack) -> None:
    import asyncio

    from fovea_client import AsyncFovea

    async def ask() -> bytes:
        async with AsyncFovea(url=stack.url) as fovea:
            found = await fovea.models.filters("seeing", 1)
            return await fovea.models.filters_picture("seeing", found.pictures[0], 1)

    assert asyncio.run(ask()) == PICTURES["kernels.png"]
