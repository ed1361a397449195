"""Embeddings and similar training images over the real service: gateway, worker, dataset and thumbnails."""

import base64
import dataclasses
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support.colours import LABELS, picture
from support.gateways import Gateways
from support.stack import Stack
from support.taught import embedding_of, make_taught_artifact, publish_taught, register
from support.world import archive_of

from models.artifact import write_manifest

PNG = {"content-type": "image/png"}
PER_CLASS = 6


def photographs(seed: int) -> dict[str, bytes]:
    """By the path under which they are sent; a quote in a name must not lead astray."""
    return {
        f'{colour}/{n} "sha256": "{n}".png': shade(colour, n, seed) for colour in LABELS for n in range(PER_CLASS)
    }


def shade(colour: str, number: int, seed: int) -> bytes:
    """Mostly the colour, with more of the next one by its number."""
    pixels = np.full((40, 48, 3), 40, np.uint8)
    pixels[..., LABELS.index(colour)] = 220
    pixels[..., (LABELS.index(colour) + 1) % 3] += np.uint8(12 * number)
    pixels[0, 0] = seed
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def upload(client: httpx.Client, stack: Stack, files: dict[str, bytes], **query: str) -> str:
    accepted = client.post("/v1/datasets", params={"name": "colours", **query}, content=archive_of(files))
    assert accepted.status_code == 202, accepted.text
    job = f"/v1/jobs/{accepted.json()['job']['id']}"
    stack.wait_until(lambda: client.get(job).json()["state"] in ("succeeded", "failed"), "the check")
    return str(accepted.json()["id"])


def by_sha256(files: dict[str, bytes]) -> dict[str, tuple[str, bytes]]:
    return {hashlib.sha256(data).hexdigest(): (name.partition("/")[0], data) for name, data in files.items()}


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> str:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        found = upload(client, stack, photographs(0))
    publish_taught(stack, "taught", photographs(0), {"id": found, "name": "colours"})
    return found


# Similar images


def test_the_nearest_training_images_come_with_label_distance_name_and_picture(
    client: httpx.Client, dataset: str
) -> None:
    sent = photographs(0)['green/3 "sha256": "3".png']
    answer = client.post("/v1/models/taught/similar?k=4", content=sent, headers=PNG)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model"], body["version"], body["precision"]) == ("taught", 1, "float32")
    assert body["dataset"] == {"id": dataset, "name": "colours", "state": "ready"}
    (prediction,) = body["predictions"]
    near = prediction["similar"]
    assert [one["label"] for one in near] == ["green"] * 4
    assert near[0]["sha256"] == hashlib.sha256(sent).hexdigest()
    assert (near[0]["name"], near[0]["distance"] < 1e-3) == ('green/3 "sha256": "3".png', True)
    assert [one["distance"] for one in near] == sorted(one["distance"] for one in near)
    shown = client.get(near[0]["thumbnail"])
    assert shown.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(shown.content)).getpixel((20, 20)) > (0, 150, 0)
    assert (
        client.post("/v1/models/taught/similar", content=sent, headers=PNG).json()["predictions"][0]["similar"][:4]
        == near
    )


@pytest.mark.usefixtures("dataset")
def test_one_broken_image_among_many_has_its_own_error(client: httpx.Client) -> None:
    files = [("file", (name, data, "image/png")) for name, data in (("r.png", picture("red")), ("x.png", b"no"))]
    body = client.post("/v1/models/taught/similar?k=1", files=files).json()
    first, second = body["predictions"]
    assert (first["name"], first["similar"][0]["label"], first["error"]) == ("r.png", "red", None)
    assert (second["similar"], second["error"]["code"]) == (None, "not_an_image")
    alone = client.post("/v1/models/taught/similar", content=b"no", headers=PNG)
    assert (alone.status_code, alone.json()["code"]) == (400, "not_an_image")


@pytest.mark.usefixtures("dataset")
@pytest.mark.parametrize("k", ["0", "51", "x"])
def test_how_many_is_bounded(client: httpx.Client, k: str) -> None:
    answer = client.post(f"/v1/models/taught/similar?k={k}", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "query.k")


def test_of_fewer_images_than_asked_for_all_come(client: httpx.Client, stack: Stack) -> None:
    two = dict(list(photographs(3).items())[:2])
    publish_taught(stack, "few", two, {"id": "builtin:digits", "name": "builtin:digits"})
    body = client.post("/v1/models/few/similar?k=50", content=picture("red"), headers=PNG).json()
    assert len(body["predictions"][0]["similar"]) == 2
    # A dataset that every installation has is no row, and has no pictures to show.
    assert body["dataset"]["state"] == "builtin"
    assert {(one["name"], one["thumbnail"]) for one in body["predictions"][0]["similar"]} == {(None, None)}


def test_above_the_limit_of_the_exact_search_a_graph_answers(client: httpx.Client, stack: Stack) -> None:
    publish_taught(stack, "many", photographs(4), {"id": "ds_x", "name": "gone"}, exact_up_to=5)
    sent = photographs(4)['blue/0 "sha256": "0".png']
    body = client.post("/v1/models/many/similar?k=3", content=sent, headers=PNG).json()
    near = body["predictions"][0]["similar"]
    assert [one["label"] for one in near] == ["blue"] * 3
    assert near[0]["sha256"] == hashlib.sha256(sent).hexdigest()


def test_of_a_deleted_dataset_neither_name_nor_picture_is_left(client: httpx.Client, stack: Stack) -> None:
    found = upload(client, stack, photographs(5))
    publish_taught(stack, "orphan", photographs(5), {"id": found, "name": "colours"})
    send = {"url": "/v1/models/orphan/similar", "content": picture("blue"), "headers": PNG}
    before = client.post(**send).json()
    assert before["dataset"]["state"] == "ready"
    thumbnail = before["predictions"][0]["similar"][0]["thumbnail"]
    assert client.delete(f"/v1/datasets/{found}").status_code == 204
    after = client.post(**send).json()
    assert after["dataset"] == {"id": found, "name": "colours", "state": "deleted"}
    for old, new in zip(before["predictions"][0]["similar"], after["predictions"][0]["similar"], strict=True):
        assert new == {**old, "name": None, "thumbnail": None}
    assert client.get(thumbnail).status_code == 404


def test_a_version_that_was_not_fine_tuned_says_why_it_has_none(client: httpx.Client) -> None:
    answer = client.post("/v1/models/colours/similar", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (409, "neighbours_unavailable")
    assert "only what a fine-tune" in answer.json()["detail"]


def test_a_network_without_an_embedding_gives_its_reason(client: httpx.Client, stack: Stack) -> None:
    folder = stack.folder / "made" / "reasons"
    manifest = make_taught_artifact(folder, by_sha256(photographs(6)), {})
    told = {"neighbours": {"images": 0, "reason": "the network's graph has no embedding"}}
    write_manifest(folder, dataclasses.replace(manifest, findings=told, outputs={}, files={}))
    register(stack, "reasons", "models/reasons/1/", folder)
    answer = client.post("/v1/models/reasons/similar", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (409, "neighbours_unavailable")
    assert "the network's graph has no embedding" in answer.json()["detail"]


def test_files_that_were_damaged_fail_the_question_and_not_the_worker(client: httpx.Client, stack: Stack) -> None:
    publish_taught(stack, "damaged", photographs(7), {"id": "ds_x", "name": "gone"})
    stored = stack.folder / "blobs/models/damaged/1/neighbours.npy"
    stored.write_bytes(stored.read_bytes()[:-1])
    answer = client.post("/v1/models/damaged/similar", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (503, "artifact_unusable")
    assert client.post("/v1/models/colours/classify", content=picture("red"), headers=PNG).status_code == 200


# Embeddings


@pytest.mark.usefixtures("dataset")
def test_an_embedding_is_what_the_network_makes_of_the_image(client: httpx.Client) -> None:
    image = picture("green", noise=9)
    answer = client.post("/v1/models/taught/embed", content=image, headers=PNG)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model"], body["version"], body["dimensions"]) == ("taught", 1, 3)
    (prediction,) = body["predictions"]
    np.testing.assert_allclose(prediction["embedding"], embedding_of(image), atol=0.5)
    sent = {"images": [base64.b64encode(image).decode()]}
    body = client.post("/v1/models/taught/embed?encoding=base64", json=sent).json()
    packed = body["predictions"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == prediction["embedding"]


@pytest.mark.usefixtures("dataset")
def test_embeddings_come_in_the_order_of_the_images(client: httpx.Client) -> None:
    files = [("file", (f"{name}.png", data, "image/png")) for name, data in zip(
        "abc", (picture("red"), b"no", picture("blue")), strict=True)]  # fmt: skip
    body = client.post("/v1/models/taught/embed", files=files).json()
    a, b, c = body["predictions"]
    assert (np.argmax(a["embedding"]), np.argmax(c["embedding"])) == (0, 2)
    assert (b["embedding"], b["error"]["code"]) == (None, "not_an_image")
    only_broken = client.post("/v1/models/taught/embed", files=[files[1], files[1]]).json()
    assert [one["embedding"] for one in only_broken["predictions"]] == [None, None]


def test_a_version_without_an_embedding_says_so(client: httpx.Client) -> None:
    answer = client.post("/v1/models/colours/embed", content=picture("red"), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (409, "embedding_unavailable")


# A dataset's images


def test_a_datasets_images_are_listed_page_by_page(client: httpx.Client, dataset: str) -> None:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        asked = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"/v1/datasets/{dataset}/images", params=asked)
        assert page.status_code == 200, page.text
        found += page.json()["items"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
    assert {one["name"] for one in found} == set(photographs(0))
    assert len(found) == 3 * PER_CLASS
    one = found[0]
    assert (one["width"], one["height"], one["split"]) == (48, 40, None)
    assert client.get(one["thumbnail"]).status_code == 200
    only = client.get(f"/v1/datasets/{dataset}/images?label=red&limit=200").json()
    assert [each["label"] for each in only["items"]] == ["red"] * PER_CLASS
    assert client.get(f"/v1/datasets/{dataset}/images?label=mauve").json()["items"] == []
    assert client.get(f"/v1/datasets/{dataset}/images?split=val").json()["items"] == []


@pytest.mark.parametrize("cursor", ["x", "Nw", "OTk5OTk5OQ", "ImEi"])
def test_another_cursor_is_refused(client: httpx.Client, dataset: str, cursor: str) -> None:
    answer = client.get(f"/v1/datasets/{dataset}/images?cursor={cursor}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


def test_what_has_no_list_says_why(client: httpx.Client, stack: Stack) -> None:
    plain = upload(client, stack, {"a.png": picture("red")}, labels="none")
    answer = client.get(f"/v1/datasets/{plain}/images")
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_unlabelled")
    refused = upload(client, stack, {"red/a.txt": b"no image", **photographs(8)}, on_fault="refuse")
    answer = client.get(f"/v1/datasets/{refused}/images")
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_refused")
    assert client.get("/v1/datasets/ds_nothing/images").status_code == 404


# Keys


def test_what_a_dataset_holds_is_for_those_who_may_read_datasets(gateways: Gateways) -> None:
    """A key that may only classify learns no name and no picture of a training image."""
    url = gateways.urls[0]
    _, headers = gateways.key("classify")
    _, wider = gateways.key("train")
    for path in ("/v1/models/m/similar",):
        assert httpx.post(url + path, content=picture("red"), headers={**PNG, **headers}).status_code == 403
        assert httpx.post(url + path, content=picture("red"), headers={**PNG, **wider}).status_code == 404
    for path in ("/v1/datasets/ds_x/images", f"/v1/datasets/ds_x/thumbnails/{'0' * 64}"):
        assert httpx.get(url + path, headers=headers).status_code == 403
        assert httpx.get(url + path, headers=wider).status_code == 404
    answer = httpx.post(f"{url}/v1/models/m/embed", content=picture("red"), headers={**PNG, **headers})
    assert answer.json()["code"] == "unknown_model"
