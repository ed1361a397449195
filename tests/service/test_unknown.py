"""Images that show none of the classes, over the real service: marked, refused, in jobs, and counted."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support.colours import make_colour_artifact, picture
from support.stack import Stack, running_stack

from fovea_client import Fovea, UnknownImage
from models.artifact import write_manifest

# Of the generalised entropy: a colour has 1.7, grey 2.6.
THRESHOLD = 2.2
PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("unknown")
    with running_stack(folder / "stack") as stack:
        for model, facts in {
            "colours-knowing": {"method": "gen", "file": None, "threshold": THRESHOLD},
            "colours-unsure": {"method": "gen", "file": None, "threshold": None},
        }.items():
            publish(stack, folder / model, model, facts)
        yield stack


def publish(stack: Stack, folder: Path, model: str, facts: dict[str, Any]) -> None:
    manifest = write_manifest(
        folder, dataclasses.replace(make_colour_artifact(folder), findings={"unknown": facts})
    )
    artifact = f"models/{model}/1"
    (stack.folder / "blobs" / artifact).parent.mkdir(parents=True, exist_ok=True)
    folder.rename(stack.folder / "blobs" / artifact)
    with stack.registry() as registry:
        registry.add_version(model, artifact=artifact, manifest=manifest.to_dict(), size_bytes=1)


def grey(shade: int = 120) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 48, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def classify(service: Stack, image: bytes, model: str = "colours-knowing", **query: str) -> httpx.Response:
    url = f"{service.url}/v1/models/{model}/classify"
    return httpx.post(url, params=query, content=image, headers=PNG, timeout=30)


def test_an_image_of_none_of_the_classes_is_marked_and_answered(service: Stack) -> None:
    (red,) = classify(service, picture("red")).json()["predictions"]
    (none,) = classify(service, grey()).json()["predictions"]
    assert (red["unknown"]["is_unknown"], red["classes"][0]["label"]) == (False, "red")
    assert (none["unknown"]["is_unknown"], len(none["classes"])) == (True, 3)
    assert red["unknown"]["score"] < red["unknown"]["threshold"] == THRESHOLD < none["unknown"]["score"]


def test_asked_to_refuse_it_is_an_error_alone_and_in_its_place_among_others(service: Stack) -> None:
    alone = classify(service, grey(), on_unknown="refuse")
    assert (alone.status_code, alone.json()["code"]) == (422, "unknown_image")
    assert "on_unknown=mark" in alone.json()["detail"]
    assert classify(service, picture("red"), on_unknown="refuse").status_code == 200
    files = [("file", ("a.png", image, "image/png")) for image in (picture("blue"), grey())]
    url = f"{service.url}/v1/models/colours-knowing/classify?on_unknown=refuse"
    blue, none = httpx.post(url, files=files, timeout=30).json()["predictions"]
    assert (blue["error"], blue["classes"][0]["label"]) == (None, "blue")
    assert (none["classes"], none["error"]["code"], none["unknown"]["is_unknown"]) == (None, "unknown_image", True)
    assert classify(service, grey(), on_unknown="perhaps").json()["code"] == "invalid_request"


def test_who_cannot_tell_says_so_and_refuses_nothing(service: Stack) -> None:
    (unsure,) = classify(service, grey(), "colours-unsure", on_unknown="refuse").json()["predictions"]
    assert (unsure["unknown"]["threshold"], unsure["unknown"]["is_unknown"]) == (None, None)
    service.publish(model="colours-plain")
    (plain,) = classify(service, grey(), "colours-plain", on_unknown="refuse").json()["predictions"]
    assert (plain["unknown"], plain["error"]) == (None, None)


@pytest.mark.parametrize(("on_unknown", "errors"), [("mark", {}), ("refuse", {"unknown_image": 1})])
def test_a_job_over_many_images_marks_or_refuses_and_counts(
    service: Stack, on_unknown: str, errors: dict[str, int]
) -> None:
    folder = service.folder / "blobs" / "images" / on_unknown
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(picture("green"))
    (folder / "b.png").write_bytes(grey())
    with Fovea(service.url) as fovea:
        job = fovea.classify_many(model="colours-knowing", prefix=on_unknown, on_unknown=on_unknown)  # type: ignore[arg-type]
        result = job.wait().result or {}
        assert (result["unknown"], result["errors"]) == (1, errors)
        found = list(job.results())
    assert [prediction.unknown and prediction.unknown.is_unknown for prediction in found] == [False, True]
    results = f"{service.url}/v1/jobs/{job.id}/results"
    rows = list(csv.DictReader(io.StringIO(httpx.get(results, headers={"accept": "text/csv"}).text)))
    assert [(row["is_unknown"], float(row["unknown_score"]) > THRESHOLD) for row in rows] == [
        ("false", False),
        ("true", True),
    ]
    lines = [json.loads(line) for line in httpx.get(results).text.splitlines()]
    assert (lines[1]["classes"] is None) == (on_unknown == "refuse")


def test_an_answer_that_nobody_waits_for_has_it_too(service: Stack) -> None:
    with Fovea(service.url) as fovea:
        job = fovea.classify_later([picture("red"), grey()], model="colours-knowing", on_unknown="refuse")
        red, none = (job.wait().result or {})["predictions"]
    assert (red["unknown"]["is_unknown"], none["error"]["code"]) == (False, "unknown_image")


def test_the_client_tells_and_raises(service: Stack) -> None:
    with Fovea(service.url) as fovea:
        prediction = fovea.classify(grey(), model="colours-knowing")
        assert prediction.unknown is not None
        assert (prediction.unknown.is_unknown, "none of these" in repr(prediction)) == (True, True)
        assert "none of these" in prediction._repr_html_()
        with pytest.raises(UnknownImage):
            fovea.classify(grey(), model="colours-knowing", on_unknown="refuse")


def test_unknown_answers_are_counted_by_model(service: Stack) -> None:
    def counted() -> float:
        text = httpx.get(f"{service.url}/metrics").text
        name = 'fovea_unknown_images_total{model="colours-knowing"} '
        return float(next((line.removeprefix(name) for line in text.splitlines() if line.startswith(name)), 0))

    before = counted()
    classify(service, picture("red"))
    classify(service, grey())
    classify(service, grey(), on_unknown="refuse")
    assert counted() == before + 2
