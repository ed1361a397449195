"""An evaluation measures versions on a dataset's images, whatever ends its attempts, and says what it left out."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.colours import LABELS, make_colour_artifact, picture
from support.learnt import learnt_dataset, learnt_version
from support.world import World, archive_of

from models.artifact import checksums
from models.dataset.builtin import DIGITS
from models.training.split import split_dataset
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.job_ledger import Job, JobState
from workers.contract.evaluations import CARD_HTML, CARD_MARKDOWN, REPORT, answers_key, read_chunk, report_key
from workers.inference.engine import Engine
from workers.inference.evaluate import EvaluateJob
from workers.inference.ingest import IngestJob
from workers.inference.loaded import LoadedModels
from workers.inference.loader import PredictorLoader

CHUNK = 20


class Killed(BaseException):
    """As far as the test's process can be killed: nothing of ours catches it."""


@pytest.fixture
def evaluate(world: World, tmp_path: Path) -> Iterator[EvaluateJob]:
    """`colours:1` knows red, green and blue; `colours:2` takes red for green and green for red; `colours:3` has a
    name of its own for blue."""
    for number, labels in enumerate(
        (("red", "green", "blue"), ("green", "red", "blue"), ("red", "green", "azure")), 1
    ):
        manifest = make_colour_artifact(tmp_path / str(number), labels=labels, variants={"int8": False})
        world.blobs.put_folder(f"models/colours/{number}", tmp_path / str(number))
        world.registry.add_version(
            "colours", artifact=f"models/colours/{number}", manifest=manifest.to_dict(), size_bytes=1
        )
    folders = FolderCache(world.blobs, tmp_path / "copies", 2**30)
    load = PredictorLoader(
        lambda artifact: folders.hold(artifact, checksums), device="cpu", intra_op_threads=1, cuda_memory_bytes=0
    )
    engine = Engine(LoadedModels(load, memory_budget=2**30), concurrency=1, max_pixels=10_000)
    yield EvaluateJob(world.registry, world.datasets, world.blobs, engine, tmp_path / "cache")
    engine.close()


def dataset_of(world: World, files: dict[str, bytes]) -> str:
    job, dataset = world.upload(archive_of(files))
    ended = world.run(job, IngestJob(world.datasets, world.blobs, world.folder / "scratch"))
    assert ended.state == JobState.SUCCEEDED, ended.error
    return dataset.id


def pictures(per_class: int, *, wrong: int = 0, seed: int = 0, split: str = "") -> dict[str, bytes]:
    """Of each colour so many; `wrong` of them lie in the folder of another."""
    return {
        f"{split}{LABELS[(k + (i < wrong)) % 3]}/{k}-{i:03d}.png": picture(
            colour, noise=1 + i + 1000 * k + 100_000 * seed
        )
        for k, colour in enumerate(LABELS)
        for i in range(per_class)
    }


def asked(world: World, *numbers: int, **changes: Any) -> Job:
    models = [{"model": "colours", "version": n, "reference": f"colours:{n}"} for n in numbers]
    request = {"models": models, "split": "all", "precision": "float32", "chunk": CHUNK, **changes}
    return world.ledger.create("evaluate", request, max_attempts=10)


def report_of(world: World, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(world.blobs.get_bytes(report_key(job.id, REPORT)))
    return found


def test_a_version_is_measured_and_its_mistakes_are_shown(world: World, evaluate: EvaluateJob) -> None:
    dataset = dataset_of(world, pictures(10, wrong=1))
    job = asked(world, 1, dataset=dataset)
    ended = world.run(job, evaluate)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    assert ended.result is not None
    (score,) = ended.result["versions"]
    assert (score["images"], score["accuracy"], score["unknown_images"]) == (30, 0.9, 0)
    assert score["accuracy_interval"] == pytest.approx([0.7438, 0.9654], abs=1e-4)
    assert (score["precision"], score["provider"]) == ("float32", "CPUExecutionProvider")
    assert (ended.result["images"], ended.result["comparisons"], ended.result["differing_images"]) == (30, [], 0)
    report = report_of(world, job)
    (version,) = report["versions"]
    assert version["confusion"] == {
        "labels": ["red", "green", "blue"],
        "counts": [[9, 0, 1], [1, 9, 0], [0, 1, 9]],
    }
    assert [c["recall"] for c in version["classes"]] == [0.9, 0.9, 0.9]
    assert {(m["label"], m["predicted"]) for m in version["worst"]} == {
        ("green", "red"), ("blue", "green"), ("red", "blue")
    }  # fmt: skip
    assert {m["path"] for m in version["worst"]} == {"green/0-000.png", "blue/1-000.png", "red/2-000.png"}
    assert (report["dataset"]["images"], report["split"], report["images"]) == (30, "all", 30)
    html = world.blobs.get_bytes(report_key(job.id, CARD_HTML)).decode()
    markdown = world.blobs.get_bytes(report_key(job.id, CARD_MARKDOWN)).decode()
    assert html.count("data:image/jpeg") == 3
    assert "**90.0 % accuracy on 30 images**" in markdown
    assert (ended.progress["done"], ended.progress["total"]) == (30, 30)


def test_two_versions_are_compared_on_the_same_images(world: World, evaluate: EvaluateJob) -> None:
    dataset = dataset_of(world, pictures(10))
    job = asked(world, 1, 2, dataset=dataset)
    ended = world.run(job, evaluate)
    assert ended.result is not None
    assert [score["accuracy"] for score in ended.result["versions"]] == [1.0, pytest.approx(1 / 3)]
    (pair,) = ended.result["comparisons"]
    assert (pair["first"], pair["second"], pair["only_first"], pair["only_second"]) == (
        "colours:1", "colours:2", 20, 0
    )  # fmt: skip
    assert pair["p_value"] == pair["adjusted_p_value"] == pytest.approx(2 * 0.5**20)
    assert pair["difference_interval"][0] < pair["difference"] < pair["difference_interval"][1]
    assert "colours:1 is right more often than colours:2" in pair["conclusion"]
    assert ended.result["differing_images"] == 20
    report = report_of(world, job)
    assert {image["label"] for image in report["differing"]} == {"red", "green"}
    assert [answer["label"] for answer in report["differing"][0]["answers"]] in (
        ["red", "green"],
        ["green", "red"],
    )
    markdown = world.blobs.get_bytes(report_key(job.id, CARD_MARKDOWN)).decode()
    assert pair["conclusion"].replace("<", "\\<") in markdown


def test_of_three_versions_each_pair_is_compared_with_holms_correction(
    world: World, evaluate: EvaluateJob
) -> None:
    dataset = dataset_of(world, pictures(8, wrong=1))
    job = asked(world, 1, 2, 3, dataset=dataset)
    ended = world.run(job, evaluate)
    assert ended.result is not None
    pairs = {(pair["first"][-1], pair["second"][-1]): pair for pair in ended.result["comparisons"]}
    assert set(pairs) == {("1", "2"), ("1", "3"), ("2", "3")}
    # Where blue is not one of the classes of the third, it is measured by the other two colours.
    assert [pairs[key]["images"] for key in pairs] == [24, 16, 16]
    assert pairs["1", "2"]["adjusted_p_value"] == pytest.approx(3 * pairs["1", "2"]["p_value"])
    assert "corrected by Holm for 3 pairs" in pairs["1", "3"]["conclusion"]
    assert "cannot tell" in pairs["1", "3"]["conclusion"]


def test_labels_go_by_name_and_what_does_not_match_is_said(world: World, evaluate: EvaluateJob) -> None:
    dataset = dataset_of(world, pictures(5))
    job = asked(world, 3, dataset=dataset)
    ended = world.run(job, evaluate)
    assert ended.result is not None
    (score,) = ended.result["versions"]
    assert (score["images"], score["accuracy"], score["unknown_images"]) == (10, 1.0, 5)
    assert ended.result["warnings"][-1] == ("colours:3 has no class named blue: 5 images are not in its figures.")
    (version,) = report_of(world, job)["versions"]
    assert (version["unknown_labels"], version["absent_labels"]) == ({"blue": 5}, ["azure"])


def test_a_label_that_two_classes_share_is_not_one_to_measure_by(
    world: World, evaluate: EvaluateJob, tmp_path: Path
) -> None:
    manifest = make_colour_artifact(tmp_path / "twice", labels=("red", "green", "green"))
    world.blobs.put_folder("models/twice/1", tmp_path / "twice")
    world.registry.add_version("twice", artifact="models/twice/1", manifest=manifest.to_dict(), size_bytes=1)
    models = [{"model": "twice", "version": 1, "reference": "twice"}]
    ended = world.run(asked(world, models=models, dataset=dataset_of(world, pictures(4))), evaluate)
    assert ended.result is not None
    assert ended.result["versions"][0]["images"] == 4


def test_nothing_in_common_fails_the_job_and_names_both(world: World, evaluate: EvaluateJob) -> None:
    files = {f"{label}/{i}.png": picture("red", noise=i + 9 * ord(label)) for label in "xy" for i in range(3)}
    ended = world.run(asked(world, 1, dataset=dataset_of(world, files)), evaluate)
    assert ended.error is not None
    assert ended.error["code"] == "invalid_request"
    assert "(x, y) is one of colours:1's (red, green, blue)" in ended.error["detail"]


def test_unseen_are_the_images_that_none_of_the_versions_learnt_from(world: World, evaluate: EvaluateJob) -> None:
    first, second = learnt_dataset(world), learnt_dataset(world, seed=1)
    versions = [learnt_version(world, first, seed=0), learnt_version(world, first, seed=1)]
    models = [{"model": "m", "version": v.number, "reference": "m"} for v in versions]
    trained = [set(split_dataset(first.folder, fraction=0.2, seed=seed).train.sha256) for seed in (0, 1)]
    job = asked(world, models=models, dataset=first.id, split="unseen")
    ended = world.run(job, evaluate)
    assert ended.state == JobState.SUCCEEDED, ended.error
    assert ended.result is not None
    assert ended.result["images"] == 30 - len(trained[0] | trained[1])
    assert ([score["seen_share"] for score in ended.result["versions"]], ended.result["warnings"]) == ([0, 0], [])
    other = world.run(asked(world, models=models, dataset=second.id, split="unseen"), evaluate)
    assert other.result is not None
    assert other.result["images"] == 30


def test_what_a_version_learnt_from_is_measured_with_a_warning(world: World, evaluate: EvaluateJob) -> None:
    dataset = learnt_dataset(world)
    versions = [learnt_version(world, dataset), learnt_version(world, None)]
    models = [{"model": "m", "version": v.number, "reference": "m"} for v in versions]
    job = asked(world, models=models, dataset=dataset.id, split="all")
    ended = world.run(job, evaluate)
    assert ended.result is not None
    assert [score["seen_share"] for score in ended.result["versions"]] == [0.8, None]
    assert ended.result["warnings"] == [
        "m:1 learnt from 24 of these 30 images (80.0 %): how good it is on new ones, they do not tell.",
        "m:2 may have learnt from some of these images: its weights come from elsewhere, and what they learnt "
        "from is not known here.",
    ]
    assert (
        "But m:1 learnt from some of these images, which favours it."
        in ended.result["comparisons"][0]["conclusion"]
    )
    html = world.blobs.get_bytes(report_key(job.id, CARD_HTML)).decode()
    assert '<p class="caution">m:1 learnt from 24 of these 30 images (80.0 %)' in html


def test_where_every_image_was_seen_there_are_none_to_measure_by(world: World, evaluate: EvaluateJob) -> None:
    dataset = learnt_dataset(world)
    version = learnt_version(world, dataset, validation_hash="of another draw")
    models = [{"model": "m", "version": version.number, "reference": "m"}]
    ended = world.run(asked(world, models=models, dataset=dataset.id, split="unseen"), evaluate)
    assert ended.error is not None
    assert ended.error["code"] == "invalid_request"
    assert ended.error["detail"].startswith("split: the versions learnt from every image")


def test_which_images_are_unseen_is_decided_once(
    world: World, evaluate: EvaluateJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two attempts a dataset goes, and with it what is known of what a version has seen."""
    first, second = learnt_dataset(world), learnt_dataset(world, seed=1)
    begun = learnt_version(world, first)
    version = learnt_version(world, second, started_from=begun)
    models = [{"model": "m", "version": version.number, "reference": "m"}]
    job = asked(world, models=models, dataset=second.id, split="unseen")

    def die(self: BlobStore, key: str, data: bytes) -> None:
        if "/results/" in key:
            raise Killed
        original(self, key, data)

    original = BlobStore.put_bytes
    with monkeypatch.context() as broken:
        broken.setattr(BlobStore, "put_bytes", die)
        with pytest.raises(Killed):
            world.run(job, evaluate)
    world.registry.delete_version("m", version.number - 1)
    world.expire()
    ended = world.run(job, evaluate)
    assert ended.result is not None
    assert (ended.attempt, ended.result["images"], ended.result["warnings"]) == (2, 6, [])


@pytest.mark.parametrize(("split", "images"), [("train", 12), ("validation", 6), ("test", 3), ("all", 21)])
def test_a_split_of_the_datasets_own_is_measured(
    world: World, evaluate: EvaluateJob, split: str, images: int
) -> None:
    files = pictures(4, split="train/") | pictures(2, seed=1, split="val/") | pictures(1, seed=2, split="test/")
    ended = world.run(asked(world, 1, dataset=dataset_of(world, files), split=split), evaluate)
    assert ended.result is not None
    assert (ended.result["images"], ended.result["versions"][0]["images"]) == (images, images)


def test_a_split_that_is_not_there_fails_the_job(world: World, evaluate: EvaluateJob) -> None:
    ended = world.run(asked(world, 1, dataset=dataset_of(world, pictures(2)), split="test"), evaluate)
    assert ended.error is not None
    assert (ended.error["code"], "its test split" in ended.error["detail"]) == ("invalid_request", True)


def test_the_built_in_digits_are_measured_by_without_an_upload(
    world: World, evaluate: EvaluateJob, tmp_path: Path
) -> None:
    """By a network that knows three of the ten, and nothing of digits."""
    manifest = make_colour_artifact(tmp_path / "digits", labels=("0", "1", "2"))
    world.blobs.put_folder("models/digits/1", tmp_path / "digits")
    world.registry.add_version("digits", artifact="models/digits/1", manifest=manifest.to_dict(), size_bytes=1)
    models = [{"model": "digits", "version": 1, "reference": "digits"}]
    job = asked(world, models=models, dataset=DIGITS, split="test", chunk=256)
    ended = world.run(job, evaluate)
    assert ended.state == JobState.SUCCEEDED, ended.error
    assert ended.result is not None
    assert ended.result["images"] == 360
    (version,) = report_of(world, job)["versions"]
    assert version["images"] + version["unknown_images"] == 360
    # Grey pictures are as much of each colour: the first class wins.
    assert version["classes"][0]["recall"] == 1.0


@pytest.mark.parametrize("at", [(0, 0), (0, 2), (1, 0), (1, 1)])
def test_killed_while_it_writes_it_goes_on_and_reports_what_an_unbroken_one_does(
    world: World, evaluate: EvaluateJob, monkeypatch: pytest.MonkeyPatch, at: tuple[int, int]
) -> None:
    dataset = dataset_of(world, pictures(17, wrong=2))
    unbroken = asked(world, 1, 2, dataset=dataset)
    expected = world.run(unbroken, evaluate).result
    job = asked(world, 1, 2, dataset=dataset)
    original, written = BlobStore.put_bytes, Counter[str]()

    def die_at(self: BlobStore, key: str, data: bytes) -> None:
        if key == answers_key(job.id, *at) and not written[key]:
            written[key] += 1
            raise Killed
        written[key] += 1
        original(self, key, data)

    with monkeypatch.context() as broken:
        broken.setattr(BlobStore, "put_bytes", die_at)
        with pytest.raises(Killed):
            world.run(job, evaluate)
        world.expire()
        ended = world.run(job, evaluate)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert ended.result == expected
    assert report_of(world, job) | {"created_at": ""} == report_of(world, unbroken) | {"created_at": ""}
    # What was there was not answered again.
    assert {key: n for key, n in written.items() if "/results/" in key and n > 1} == {answers_key(job.id, *at): 2}


def test_answers_in_another_precision_are_given_anew(world: World, evaluate: EvaluateJob) -> None:
    """The worker chooses: one of the attempts may have run where another is the fastest."""
    dataset = dataset_of(world, pictures(17))
    job, other = asked(world, 1, dataset=dataset, precision=""), asked(world, 1, dataset=dataset, precision="int8")
    found = world.run(other, evaluate)
    assert found.result is not None
    assert found.result["versions"][0]["precision"] == "int8"
    foreign = world.blobs.get_bytes(answers_key(other.id, 0, 1)).replace(b'"int8"', b'"fp16"', 1)
    world.blobs.put_bytes(answers_key(job.id, 0, 1), foreign)
    world.blobs.put_bytes(answers_key(job.id, 0, 2), b"torn")
    ended = world.run(job, evaluate)
    assert ended.state == JobState.SUCCEEDED, ended.error
    heads = {read_chunk(world.blobs.get_bytes(answers_key(job.id, 0, n)))[0].precision for n in range(3)}
    assert len(heads) == 1


def test_images_that_are_gone_are_counted_and_in_no_figure(world: World, evaluate: EvaluateJob) -> None:
    dataset = dataset_of(world, pictures(5))
    prefix = world.datasets.get(dataset).prefix
    gone = next(iter(world.blobs.list(f"{prefix}/files")))
    job = asked(world, 1, dataset=dataset)
    world.blobs.delete(gone)
    ended = world.run(job, evaluate)
    assert ended.result is not None
    assert ended.result["versions"][0]["images"] == 14
    (version,) = report_of(world, job)["versions"]
    assert sum(version["failed"].values()) == 1
    assert "1 images could not be classified by colours:1" in ended.result["warnings"][-1]


def test_a_version_that_is_gone_fails_the_job(world: World, evaluate: EvaluateJob) -> None:
    ended = world.run(asked(world, 1, 9, dataset=dataset_of(world, pictures(2))), evaluate)
    assert ended.error is not None
    assert ended.error["code"] == "not_found"


def test_neither_job_nor_card_needs_what_only_a_training_worker_has() -> None:
    modules = "workers.inference.evaluate, models.card.evaluated, models.card.render"
    absent = ("torch", "torchvision", "matplotlib", "scipy", "sklearn", "onnx", "pandas")
    code = f"import sys, {modules}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
