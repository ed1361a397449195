"""A bulk classification has one line for each image, whatever ends its attempts in between."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.colours import LABELS, make_colour_artifact, picture
from support.world import World, archive_of, colours_archive

from models.artifact import checksums
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.errors import BlobsUnavailable
from storage.job_ledger import Job, JobState
from workers.contract.results import chunk_key, read_lines, results_folder
from workers.inference import pipeline
from workers.inference.classify_many import ClassifyManyJob
from workers.inference.engine import Engine
from workers.inference.ingest import IngestJob
from workers.inference.loaded import LoadedModels
from workers.inference.loader import PredictorLoader
from workers.inference.pipeline import BATCH_IMAGES
from workers.jobs.attempt import run_attempt

CHUNK = 20


class Killed(BaseException):
    """As far as the test's process can be killed: nothing of ours catches it."""


@pytest.fixture
def classify(world: World, tmp_path: Path) -> Iterator[ClassifyManyJob]:
    manifest = make_colour_artifact(tmp_path / "made")
    world.blobs.put_folder("models/colours/1", tmp_path / "made")
    world.registry.add_version("colours", artifact="models/colours/1", manifest=manifest.to_dict(), size_bytes=1)
    folders = FolderCache(world.blobs, tmp_path / "copies", 2**30)
    load = PredictorLoader(
        lambda artifact: folders.hold(artifact, checksums), device="cpu", intra_op_threads=1, cuda_memory_bytes=0
    )
    engine = Engine(LoadedModels(load, memory_budget=2**30), concurrency=1, max_pixels=10_000)
    yield ClassifyManyJob(world.registry, world.datasets, world.blobs, engine)
    engine.close()


def asked(world: World, **changes: Any) -> Job:
    request = {"model": "colours", "version": 1, "top_k": 2, "chunk": CHUNK, "prefix": "november"}
    return world.ledger.create("classify_many", {**request, **changes}, max_attempts=10)


def fill(world: World, count: int, prefix: str = "november") -> list[str]:
    """So many images in the operator's folder; their paths in order."""
    paths = [f"{prefix}/{number:05d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        world.blobs.put_bytes(f"images/{path}", picture(LABELS[number % 3], noise=number + 1))
    return paths


def lines_of(world: World, job: Job) -> list[dict[str, Any]]:
    return [
        line for key in world.blobs.list(results_folder(job.id)) for line in read_lines(world.blobs.get_bytes(key))
    ]


def dataset_of(world: World, archive: bytes, **request: Any) -> str:
    """The id of a dataset that has been checked."""
    job, dataset = world.upload(archive, **request)
    world.run(job, IngestJob(world.datasets, world.blobs, world.folder / "scratch"))
    return dataset.id


def test_a_folder_of_the_operators_has_a_line_for_each_image(world: World, classify: ClassifyManyJob) -> None:
    paths = fill(world, 2 * CHUNK + 3)
    fill(world, 2, "november-of-another-year")
    job = asked(world)
    ended = world.run(job, classify)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    assert ended.result == {
        "model": "colours",
        "version": 1,
        "provider": "CPUExecutionProvider",
        "precision": "float32",
        "images": len(paths),
        "errors": {},
        "unknown": 0,
    }
    lines = lines_of(world, job)
    assert [line["path"] for line in lines] == paths
    assert [line["classes"][0]["label"] for line in lines] == [LABELS[n % 3] for n in range(len(paths))]
    assert {len(line["classes"]) for line in lines} == {2}
    assert len(world.blobs.list(results_folder(job.id))) == 3
    assert (ended.progress["done"], ended.progress["total"]) == (len(paths), len(paths))


def test_what_is_no_image_or_gone_has_its_line_too(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOST_BYTES", 20_000)
    for name, content in {
        "a.png": picture("red"),
        "broken.png": picture("red")[:60],
        "empty.jpg": b"",
        "film.mp4": bytes(30_000),
        "gone.png": picture("blue"),
        "huge.png": picture("red", size=(200, 200)),
        "notes.txt": b"hello",
        ".DS_Store": b"litter",
        "__MACOSX/a.png": b"litter",
    }.items():
        world.blobs.put_bytes(f"images/mixed/{name}", content)
    original = BlobStore.get_bytes

    def without_one(self: BlobStore, key: str, most: int | None = None) -> bytes:
        if key.endswith("gone.png"):
            self.delete(key)
        return original(self, key, most)

    monkeypatch.setattr(BlobStore, "get_bytes", without_one)
    job = asked(world, prefix="mixed/")
    ended = world.run(job, classify)
    assert {line["path"]: line["error"] and line["error"]["code"] for line in lines_of(world, job)} == {
        "mixed/a.png": None,
        "mixed/broken.png": "image_unreadable",
        "mixed/empty.jpg": "not_an_image",
        "mixed/film.mp4": "too_large",
        "mixed/gone.png": "not_found",
        "mixed/huge.png": "image_too_large",
        "mixed/notes.txt": "not_an_image",
    }
    assert ended.result is not None
    assert ended.result["errors"] == {
        "not_an_image": 2, "image_unreadable": 1, "too_large": 1, "not_found": 1, "image_too_large": 1
    }  # fmt: skip


def test_a_dataset_with_labels_has_a_line_for_each_image_under_its_path(
    world: World, classify: ClassifyManyJob
) -> None:
    dataset = dataset_of(world, colours_archive())
    job = asked(world, dataset=dataset, prefix=None)
    assert world.run(job, classify).state == JobState.SUCCEEDED
    assert [(line["path"], line["classes"][0]["label"]) for line in lines_of(world, job)] == [
        (f"{label}/{n}.png", label) for label in sorted(LABELS) for n in range(3)
    ]


def test_of_an_archive_without_labels_every_file_has_its_line_copies_and_faulty_ones_too(
    world: World, classify: ClassifyManyJob
) -> None:
    files = {
        "top.png": picture("red"),
        "deep/er/copy.png": picture("red"),
        "deep/blue.png": picture("blue"),
        "deep/broken.png": picture("red")[:60],
        "deep/notes.txt": b"hello",
    }
    dataset = dataset_of(world, archive_of(files), labels="none")
    job = asked(world, dataset=dataset, prefix=None)
    ended = world.run(job, classify)
    found = {
        line["path"]: line["classes"][0]["label"] if line["classes"] else line["error"]["code"]
        for line in lines_of(world, job)
    }
    assert found == {
        "deep/blue.png": "blue",
        "deep/broken.png": "image_unreadable",
        "deep/er/copy.png": "red",
        "deep/notes.txt": "not_an_image",
        "top.png": "red",
    }
    assert ended.result is not None
    assert ended.result["images"] == len(files)


@pytest.mark.parametrize("prefix", ["empty", "november"])
def test_a_folder_without_images_fails_the_job_and_says_so(
    world: World, classify: ClassifyManyJob, prefix: str
) -> None:
    world.blobs.put_bytes("images/november/.DS_Store", b"litter")
    ended = world.run(asked(world, prefix=prefix), classify)
    assert ended.error is not None
    assert (ended.error["code"], f"images/{prefix}" in ended.error["detail"]) == ("invalid_request", True)


def test_a_version_that_is_gone_fails_the_job(world: World, classify: ClassifyManyJob) -> None:
    fill(world, 1)
    ended = world.run(asked(world, version=7), classify)
    assert ended.error is not None
    assert ended.error["code"] == "not_found"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_killed_while_it_writes_it_goes_on_without_a_repeated_or_missing_line(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    paths = fill(world, 4 * CHUNK + 1)
    job = asked(world)
    original, written = BlobStore.put_bytes, Counter[str]()

    def die_at(self: BlobStore, key: str, data: bytes) -> None:
        if key == chunk_key(job.id, at):
            raise Killed
        written[key] += 1
        original(self, key, data)

    with monkeypatch.context() as broken:
        broken.setattr(BlobStore, "put_bytes", die_at)
        with pytest.raises(Killed):
            world.run(job, classify)
    assert len(lines_of(world, job)) == at * CHUNK
    world.expire()
    # What comes into the folder now is not of this job any more.
    world.blobs.put_bytes("images/november/00000-new.png", picture("red"))
    ended = world.run(job, classify)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert [line["path"] for line in lines_of(world, job)] == paths


def test_a_chunk_that_is_there_is_not_classified_again(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world, 3 * CHUNK)
    world.blobs.put_bytes("images/november/00030.png", b"no image")
    job = asked(world)
    world.run(job, classify)
    whole = lines_of(world, job)
    again = world.ledger.create("classify_many", job.request)
    listing = world.ledger.get(job.id).progress["listing"]
    attempt = world.take(again)
    world.ledger.report_progress(attempt, {"listing": listing})
    world.expire()
    copies = [*world.blobs.list(results_folder(job.id)), f"jobs/{job.id}/listings/{listing}.jsonl"]
    for key in copies:
        world.blobs.put_bytes(key.replace(job.id, again.id), world.blobs.get_bytes(key))
    # One was lost, one is not whole: these are done again, the third is not.
    world.blobs.delete(chunk_key(again.id, 0))
    world.blobs.put_bytes(chunk_key(again.id, 2), b'{"path": "half')
    classified = []
    original = classify.engine.classify

    def count(artifact: str, images: Any, *arguments: Any, **named: Any) -> Any:
        classified.extend(images)
        return original(artifact, images, *arguments, **named)

    object.__setattr__(classify.engine, "classify", count)
    ended = world.run(again, classify)
    assert (ended.state, len(classified)) == (JobState.SUCCEEDED, 2 * CHUNK)
    assert lines_of(world, again) == whole
    assert ended.result is not None
    assert (ended.result["images"], ended.result["errors"]) == (3 * CHUNK, {"not_an_image": 1})


def test_who_was_overtaken_before_the_listing_was_decided_decides_nothing(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused when it had listed, overtaken, and woken when the folder holds something else."""
    fill(world, CHUNK)
    job = asked(world)
    zombie = world.take(job)
    original = BlobStore.put_bytes

    def be_overtaken(self: BlobStore, key: str, data: bytes) -> None:
        monkeypatch.setattr(BlobStore, "put_bytes", original)
        fill(world, CHUNK + 5)
        assert world.run(job, classify, world.overtake(job, "heir")).state == JobState.SUCCEEDED
        original(self, key, data)

    monkeypatch.setattr(BlobStore, "put_bytes", be_overtaken)
    after = world.run(job, classify, zombie)
    assert (after.state, after.worker) == (JobState.SUCCEEDED, "heir")
    assert len(lines_of(world, job)) == CHUNK + 5


def test_who_was_overtaken_later_writes_the_same_lines_at_the_worst(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = fill(world, 3 * CHUNK)
    job = asked(world)
    zombie = world.take(job)
    original = BlobStore.put_bytes

    def be_overtaken(self: BlobStore, key: str, data: bytes) -> None:
        if key == chunk_key(job.id, 1):
            monkeypatch.setattr(BlobStore, "put_bytes", original)
            assert world.run(job, classify, world.overtake(job, "heir")).state == JobState.SUCCEEDED
        original(self, key, data)

    monkeypatch.setattr(BlobStore, "put_bytes", be_overtaken)
    after = world.run(job, classify, zombie)
    assert (after.state, after.worker) == (JobState.SUCCEEDED, "heir")
    assert [line["path"] for line in lines_of(world, job)] == paths


def interrupted_in(classify: ClassifyManyJob, batch: int, what: Any) -> None:
    """Have `what` called in the engine's call of that number."""
    calls, original = 0, classify.engine.classify

    def classify_and_tell(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == batch:
            what()
        return original(*arguments, **named)

    object.__setattr__(classify.engine, "classify", classify_and_tell)


def test_a_stopping_worker_gives_the_job_back_and_the_next_goes_on(
    world: World, classify: ClassifyManyJob
) -> None:
    paths = fill(world, 20 * CHUNK)
    stop = threading.Event()
    job = asked(world)
    interrupted_in(classify, 12, stop.set)
    run_attempt(world.ledger, world.take(job), classify, lease_s=30, stop=stop)
    given_back = world.ledger.get(job.id)
    assert (given_back.state, given_back.attempt) == (JobState.QUEUED, 0)
    assert 0 < len(lines_of(world, job)) < len(paths)
    assert world.run(job, classify).state == JobState.SUCCEEDED
    assert [line["path"] for line in lines_of(world, job)] == paths


def test_a_cancelled_job_keeps_the_lines_that_are_there(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.jobs.lease.RENEWAL_S", 0.01)
    paths = fill(world, 40 * CHUNK)
    job = asked(world)
    heard = threading.Event()

    def cancel() -> None:
        world.ledger.request_cancel(job.id)
        heard.wait(1)

    interrupted_in(classify, 12, cancel)
    ended = world.run(job, classify)
    assert (ended.state, ended.error) == (JobState.CANCELLED, None)
    lines = lines_of(world, job)
    assert [line["path"] for line in lines] == paths[: len(lines)]
    assert len(lines) % CHUNK == 0
    assert 0 < len(lines) < len(paths)


def test_a_store_that_is_away_costs_an_attempt_and_no_line(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = fill(world, 2 * CHUNK)
    job = asked(world)
    original = BlobStore.put_bytes

    def away(self: BlobStore, key: str, data: bytes) -> None:
        if key == chunk_key(job.id, 1):
            raise BlobsUnavailable("'jobs/x' in 's3://bucket' cannot be written: timed out")
        original(self, key, data)

    with monkeypatch.context() as broken:
        broken.setattr(BlobStore, "put_bytes", away)
        waiting = world.run(job, classify)
    assert waiting.error is not None
    assert (waiting.state, waiting.error["code"]) == (JobState.QUEUED, "blobs_unavailable")
    assert world.run(job, classify).state == JobState.SUCCEEDED
    assert [line["path"] for line in lines_of(world, job)] == paths


def test_after_a_death_only_what_may_have_been_in_hand_is_decoded_apart(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CHUNKS_IN_HAND", 1)
    fill(world, 2 * CHUNK)
    suspects: list[int] = []
    original = classify.engine.classify

    def note(artifact: str, images: Any, *arguments: Any, **named: Any) -> Any:
        suspects.append(len(named["suspects"]))
        return original(artifact, images, *arguments, **named)

    object.__setattr__(classify.engine, "classify", note)

    def suspects_of(attempts: int) -> list[int]:
        suspects.clear()
        job = asked(world)
        for _ in range(attempts - 1):
            world.take(job)
            world.expire()
        assert world.run(job, classify).state == JobState.SUCCEEDED
        return sorted(suspects)

    rest = CHUNK - BATCH_IMAGES
    assert suspects_of(1) == [0, 0, 0, 0]
    assert suspects_of(2) == [0, 0, rest, BATCH_IMAGES]
    assert suspects_of(3) == [rest, rest, BATCH_IMAGES, BATCH_IMAGES]


def test_large_images_leave_in_smaller_batches(
    world: World, classify: ClassifyManyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BATCH_BYTES", 3 * len(picture("red", noise=1)))
    paths = fill(world, 8)
    job = asked(world)
    batches: list[int] = []
    original = classify.engine.classify

    def note(artifact: str, images: Any, *arguments: Any, **named: Any) -> Any:
        batches.append(len(images))
        return original(artifact, images, *arguments, **named)

    object.__setattr__(classify.engine, "classify", note)
    world.run(job, classify)
    assert (sum(batches), max(batches) <= 3) == (8, True)
    assert [line["path"] for line in lines_of(world, job)] == paths


def test_a_name_that_is_no_utf8_is_classified_all_the_same(world: World, classify: ClassifyManyJob) -> None:
    folder = world.folder / "blobs" / "images" / "old"
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(picture("red"))
    (folder / "back\\slash.png").write_bytes(picture("red"))
    job = asked(world, prefix="old")
    assert world.run(job, classify).state == JobState.SUCCEEDED
    slash, latin = lines_of(world, job)
    assert (slash["path"], slash["error"]["code"]) == ("old/back\\slash.png", "image_unreadable")
    assert (latin["path"], latin["classes"][0]["label"]) == ("old/caf\ufffd.png", "red")


@pytest.mark.slow
def test_images_on_s3_are_classified_and_their_results_kept_there(
    world: World, classify: ClassifyManyJob, s3_url: str
) -> None:
    world.blobs = BlobStore(s3_url)
    paths = fill(world, CHUNK + 3)
    world.blobs.put_bytes("images/november/empty.png", b"")
    assert world.blobs.has_folder("images/november")
    assert not world.blobs.has_folder("images/nov")
    job = asked(world)
    here = ClassifyManyJob(world.registry, world.datasets, world.blobs, classify.engine)
    ended = world.run(job, here)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    assert [line["path"] for line in lines_of(world, job)] == [*paths, "november/empty.png"]
