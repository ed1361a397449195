"""Drift by REST and as metrics: of what a real worker answers, kept over a restart, and off by a setting."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.drifting import VALIDATION, make_drifting_artifact, pictures
from support.stack import Stack, running_stack

from models.drift.comparison import FEWEST_IMAGES
from storage.blobs import BlobStore

SERVED = 150


def publish(stack: Stack, model: str, **how: Any) -> str:
    folder = stack.folder / "made" / model
    manifest = make_drifting_artifact(folder, **how)
    BlobStore((stack.folder / "blobs").as_uri()).put_folder(f"models/{model}/job_1", folder)
    with stack.registry() as registry:
        registry.add_version(model, artifact=f"models/{model}/job_1", manifest=manifest.to_dict(), size_bytes=1)
    return model


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("drift"), {"FOVEA_DRIFT_WRITE_S": "0.2"}) as service:
        yield service


def drift(stack: Stack, model: str, version: int = 1, **query: str) -> dict[str, Any]:
    answer = httpx.get(f"{stack.url}/v1/models/{model}/versions/{version}/drift", params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def serve(stack: Stack, model: str, images: Sequence[bytes]) -> None:
    """The last one comes when the worker sends what it has left."""
    *most, last = images
    with httpx.Client(timeout=30) as client:
        url = f"{stack.url}/v1/models/{model}/classify"
        for start in range(0, len(most), 50):
            files = [("file", (f"{n}.png", each)) for n, each in enumerate(most[start : start + 50])]
            assert client.post(url, files=files).status_code == 200
        time.sleep(1.1)
        assert client.post(url, content=last, headers={"content-type": "image/png"}).status_code == 200


def moved(found: dict[str, Any]) -> set[str]:
    every = [*found["quantities"], *([found["embedding"]] if found["embedding"] else [])]
    return {each["label"] or each["name"] for each in every if each["drifted"]}


def test_images_like_those_that_it_was_validated_on_are_no_drift(stack: Stack) -> None:
    publish(stack, "calm")
    serve(stack, "calm", pictures(SERVED, seed=2))
    found = drift(stack, "calm")
    assert (found["state"], found["images"], found["reference_images"]) == ("none", SERVED, VALIDATION)
    assert found["since"] < found["until"]
    assert [each["name"] for each in found["quantities"]] == [
        *["probability"] * 3, "top_probability", "entropy",
    ]  # fmt: skip
    assert moved(found) == set()
    assert f"like the {VALIDATION} validation images" in found["conclusion"]
    assert {each: drift(stack, "calm", window=each)["images"] for each in ("hour", "day", "all")} == {
        "hour": SERVED, "day": SERVED, "all": SERVED,
    }  # fmt: skip


def test_one_class_alone_is_a_drift_that_is_named(stack: Stack) -> None:
    publish(stack, "blue")
    serve(stack, "blue", pictures(SERVED, colours=["blue"], seed=3))
    found = drift(stack, "blue")
    assert found["state"] == "drift"
    assert {"red", "green", "blue", "embedding"} <= moved(found)
    assert "more blue than among the validation images" in found["conclusion"]
    assert "less red than among the validation images" in found["conclusion"]


def test_pictures_that_became_dark_are_a_drift(stack: Stack) -> None:
    publish(stack, "dark")
    serve(stack, "dark", pictures(SERVED, seed=4, bright=0.3))
    found = drift(stack, "dark")
    assert found["state"] == "drift"
    assert "top_probability" in moved(found)
    assert "less sure than before" in found["conclusion"]


def test_a_network_without_an_embedding_is_compared_by_its_probabilities(stack: Stack) -> None:
    publish(stack, "flat", has_embedding=False)
    serve(stack, "flat", pictures(SERVED, colours=["red"], seed=5))
    found = drift(stack, "flat")
    assert (found["state"], found["embedding"]) == ("drift", None)


def test_too_few_images_say_nothing(stack: Stack) -> None:
    publish(stack, "quiet")
    assert drift(stack, "quiet")["images"] == 0
    serve(stack, "quiet", pictures(10))
    found = drift(stack, "quiet")
    assert (found["state"], found["images"], found["quantities"]) == ("too_few", 10, [])
    assert f"it takes {FEWEST_IMAGES}" in found["conclusion"]


def test_a_version_without_a_reference_says_so(stack: Stack) -> None:
    serve(stack, "colours", pictures(10))
    found = drift(stack, "colours")
    assert (found["state"], found["images"], found["reference_images"]) == ("no_reference", 0, None)
    assert "colours:1 has nothing to compare served images with" in found["conclusion"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nobody/versions/1/drift", 404, "unknown_model"),
        ("colours/versions/99/drift", 404, "unknown_version"),
        ("colours/versions/1/drift?window=week", 422, "invalid_request"),
    ],
)
def test_what_is_wrong_is_said(stack: Stack, path: str, status: int, code: str) -> None:
    answer = httpx.get(f"{stack.url}/v1/models/{path}", timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_restart_of_the_gateway_keeps_what_was_counted(stack: Stack) -> None:
    publish(stack, "kept")
    serve(stack, "kept", pictures(SERVED, seed=6))
    stack.stop_process("gateway")
    stack.start_process("gateway")
    stack.wait_until(stack.alive, "the gateway to answer")
    stack.wait_until(lambda: stack.workers() == 1, "the worker")
    assert drift(stack, "kept")["images"] == SERVED
    serve(stack, "kept", pictures(SERVED, seed=7))
    assert drift(stack, "kept")["images"] == 2 * SERVED


def figures(stack: Stack) -> dict[str, dict[str, float]]:
    text = httpx.get(f"{stack.url}/metrics", timeout=10).text
    return {
        family.name: {sample.labels["model"]: sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
        if family.name.startswith("fovea_drift")
    }


def test_prometheus_is_told_of_each_served_version_whether_it_drifts(stack: Stack) -> None:
    """After a restart nothing is remembered, and what is served was written a moment ago."""
    publish(stack, "watched")
    serve(stack, "watched", pictures(SERVED, colours=["green"], seed=8))
    assert drift(stack, "watched")["state"] == "drift"
    stack.stop_process("gateway")
    stack.start_process("gateway")
    stack.wait_until(stack.alive, "the gateway to answer")
    found = figures(stack)
    assert found["fovea_drift"]["watched"] == 1
    assert found["fovea_drift_distance"]["watched"] > 0.3
    assert "colours" not in found["fovea_drift"]


def test_off_nothing_is_kept(tmp_path: Path) -> None:
    with running_stack(tmp_path, {"FOVEA_DRIFT": "false", "FOVEA_DRIFT_WRITE_S": "0.2"}) as off:
        publish(off, "unwatched")
        serve(off, "unwatched", pictures(SERVED))
        time.sleep(1)
        found = drift(off, "unwatched")
        assert (found["state"], found["images"]) == ("off", 0)
        assert figures(off) == {"fovea_drift": {}, "fovea_drift_distance": {}}
        off.stop_process("gateway")
        off.environment["FOVEA_DRIFT"] = "true"
        off.start_process("gateway")
        off.wait_until(off.alive, "the gateway to answer")
        assert drift(off, "unwatched")["images"] == 0
