"""A classify job answers every image in its place, and stops between chunks when it is told to."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.colours import LABELS, make_colour_artifact, picture
from support.world import World

from models.artifact import checksums
from storage.cache import FolderCache
from storage.job_ledger import Job, JobState
from workers.inference.classify import CHUNK, ClassifyJob
from workers.inference.engine import Engine
from workers.inference.loaded import LoadedModels
from workers.inference.loader import PredictorLoader
from workers.jobs.attempt import run_attempt


@pytest.fixture
def classify(world: World, tmp_path: Path) -> Iterator[ClassifyJob]:
    manifest = make_colour_artifact(tmp_path / "made")
    world.blobs.put_folder("models/colours/1", tmp_path / "made")
    world.registry.add_version("colours", artifact="models/colours/1", manifest=manifest.to_dict(), size_bytes=1)
    folders = FolderCache(world.blobs, tmp_path / "copies", 2**30)
    load = PredictorLoader(
        lambda artifact: folders.hold(artifact, checksums), device="cpu", intra_op_threads=1, cuda_memory_bytes=0
    )
    engine = Engine(LoadedModels(load, memory_budget=2**30), concurrency=1, max_pixels=10_000)
    yield ClassifyJob(world.registry, world.blobs, engine)
    engine.close()


def asked(world: World, images: list[bytes], **changes: Any) -> Job:
    keys = [f"jobs/x/images/{i:04d}" for i in range(len(images))]
    for key, image in zip(keys, images, strict=True):
        world.blobs.put_bytes(key, image)
    request = {"model": "colours", "version": 1, "top_k": 2, "images": keys, "names": [None] * len(keys)}
    return world.ledger.create("classify", {**request, **changes})


def test_every_image_has_its_answer_in_its_place(world: World, classify: ClassifyJob) -> None:
    names = ["a.png", None, "c.png"]
    job = asked(world, [picture("blue"), b"no image", picture("red")], names=names)
    result = world.run(job, classify).result
    assert result is not None
    assert (result["model"], result["version"], result["provider"]) == ("colours", 1, "CPUExecutionProvider")
    blue, bad, red = result["predictions"]
    assert (blue["name"], blue["classes"][0]["label"], len(blue["classes"])) == ("a.png", "blue", 2)
    assert (bad["classes"], bad["error"]["code"]) == (None, "image_unreadable")
    assert (red["name"], red["classes"][0]["label"], red["error"]) == ("c.png", "red", None)


def test_many_images_are_classified_in_chunks_with_progress(world: World, classify: ClassifyJob) -> None:
    count = 2 * CHUNK + 3
    job = asked(world, [picture(LABELS[i % 3], noise=i + 1) for i in range(count)])
    result = world.run(job, classify).result
    assert result is not None
    labels = [prediction["classes"][0]["label"] for prediction in result["predictions"]]
    assert labels == [LABELS[i % 3] for i in range(count)]
    done = [event.data["done"] for event in world.ledger.events(job.id) if event.kind == "progress"]
    assert done == [CHUNK, 2 * CHUNK, count]


def test_an_image_or_a_version_that_is_gone_fails_the_job(world: World, classify: ClassifyJob) -> None:
    gone = asked(world, [picture("red")])
    world.blobs.delete("jobs/x/images/0000")
    error = world.run(gone, classify).error
    assert error is not None
    assert error["code"] == "not_found"
    error = world.run(asked(world, [picture("red")], version=7), classify).error
    assert error is not None
    assert (error["code"], "colours:7" in error["detail"]) == ("not_found", True)


def test_a_damaged_artifact_has_the_code_of_the_synchronous_call_and_no_path(
    world: World, classify: ClassifyJob
) -> None:
    world.blobs.put_bytes("models/colours/1/model.onnx", b"damaged")
    error = world.run(asked(world, [picture("red")]), classify).error
    assert error is not None
    assert error["code"] == "artifact_unusable"
    assert str(world.folder) not in error["detail"]


def test_artifacts_that_are_gone_from_the_store_have_that_code_too(world: World, classify: ClassifyJob) -> None:
    world.blobs.delete_prefix("models/colours/1")
    error = world.run(asked(world, [picture("red")]), classify).error
    assert error is not None
    assert error["code"] == "artifact_unusable"


def test_a_stopping_worker_gives_the_job_back_at_its_next_chunk(world: World, classify: ClassifyJob) -> None:
    stop = threading.Event()
    job = asked(world, [picture("red", noise=i + 1) for i in range(3 * CHUNK)])
    original = classify.engine.classify

    def classify_and_stop(*arguments: Any, **named: Any) -> Any:
        stop.set()
        return original(*arguments, **named)

    object.__setattr__(classify.engine, "classify", classify_and_stop)
    run_attempt(world.ledger, world.take(job), classify, lease_s=30, stop=stop)
    given_back = world.ledger.get(job.id)
    assert (given_back.state, given_back.attempt) == (JobState.QUEUED, 0)
