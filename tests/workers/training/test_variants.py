"""Variants of a version from job to folder: what is kept, what is refused, and what a kill leaves."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update
from support.colours import LABELS, make_colour_artifact, picture
from support.teaching import colour_dataset
from support.trainer import Trainer

from models.artifact import Manifest, read_manifest, verify, write_manifest
from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.variants.gate import FEWEST_IMAGES, Gate
from models.variants.report import VariantReport
from storage.blobs import BlobStore
from storage.clock import from_now
from storage.job_ledger import Job, JobLedger, JobState
from storage.registry import Version
from storage.tables import JobRow

LENET: dict[str, Any] = {
    "model": "colours", "architecture": "lenet5", "weights": "none", "recipe": {"epochs": 1},
}  # fmt: skip
OLD = "models/colours/job_0/a1b2c3d4"
Built = Callable[..., VariantReport]


@pytest.fixture
def version(trainer: Trainer, tmp_path: Path) -> Version:
    """Somebody's colours, with a file that no release knows any more."""
    folder = tmp_path / "version"
    manifest = make_colour_artifact(folder)
    (folder / "plots").mkdir()
    (folder / "plots" / "confusion.txt").write_text("none")
    write_manifest(folder, manifest)
    return publish(trainer, folder)


@pytest.fixture(scope="module")
def thirty_each(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    return colour_dataset(tmp_path_factory.mktemp("made") / "colours", per_class=30)


@pytest.fixture(scope="module")
def hundred_each(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    return colour_dataset(tmp_path_factory.mktemp("made") / "colours", per_class=100)


@pytest.fixture
def dataset(trainer: Trainer, thirty_each: DatasetFolder) -> str:
    return trainer.add_dataset(thirty_each)


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every variant is the same graph once more, and passes; the precisions that were tried."""
    return building(monkeypatch, passes=True)


def building(monkeypatch: pytest.MonkeyPatch, *, passes: bool) -> list[str]:
    tried: list[str] = []

    def build(model: Path, target: Path, precision: Any, *, images: Any, labels: Any, **how: Any) -> VariantReport:
        tried.append(precision)
        assert len(how["calibration"]) > 0
        assert how["calibration"].dtype == np.uint8
        assert target.parent.parent == Path(tempfile.gettempdir()).parent
        how["watcher"](1, 2)
        verdict = Gate(model, images, labels).judge(model, measure_speed=False)
        if passes:
            shutil.copyfile(model, target)
        return VariantReport(
            precision,
            passes,
            None if passes else "It is slower.",
            verdict.images,
            len(how["calibration"]),
            accuracy=verdict.accuracy,
        )

    monkeypatch.setattr("workers.training.variants.build", build)
    return tried


def publish(trainer: Trainer, folder: Path, artifact: str = OLD) -> Version:
    trainer.blobs.put_folder(artifact, folder)
    manifest = read_manifest(folder)
    size = sum(entry["bytes"] for entry in manifest.files.values())
    return trainer.registry.add_version("colours", artifact=artifact, manifest=manifest.to_dict(), size_bytes=size)


def asked(trainer: Trainer, dataset: str, **more: Any) -> Job:
    request = {"model": "colours", "version": 1, "dataset": dataset, "precisions": ["int8"], **more}
    return trainer.create("variants", **request)


def result_of(job: Job) -> Mapping[str, Any]:
    assert job.result is not None, job.error
    return job.result


def folder_of(trainer: Trainer, version: Version) -> Path:
    folder = trainer.blobs.folder_of(version.artifact)
    assert folder is not None
    return folder


def test_a_variant_that_passed_lies_beside_the_graph_in_a_folder_of_its_own(
    trainer: Trainer, version: Version, dataset: str, passing: list[str]
) -> None:
    before = {path: path.read_bytes() for path in folder_of(trainer, version).rglob("*") if path.is_file()}
    job = trainer.run_here(asked(trainer, dataset))
    assert (job.state, passing) == (JobState.SUCCEEDED, ["int8"])
    now = trainer.registry.resolve("colours:1")
    assert now.artifact.startswith(f"models/colours/{job.id}/")
    manifest = verify(folder_of(trainer, now))
    assert set(manifest.files) == {"model.onnx", "model.int8.onnx", "plots/confusion.txt"}
    assert Manifest.from_dict(now.manifest) == manifest
    assert now.size_bytes == sum(entry["bytes"] for entry in manifest.files.values())
    report = result_of(job)["variants"]["int8"]
    assert manifest.variants == {"int8": report}
    assert (report["passed"], report["accuracy"]) == (True, 1.0)
    # What the version was until now is as it was, for batches and downloads that are under way.
    assert {path: path.read_bytes() for path in before} == before
    same = dataclasses.replace(manifest, files={}, variants={})
    assert same == dataclasses.replace(Manifest.from_dict(version.manifest), files={})


def test_what_did_not_pass_is_in_the_manifest_alone(
    trainer: Trainer, version: Version, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    building(monkeypatch, passes=False)
    job = trainer.run_here(asked(trainer, dataset))
    assert result_of(job)["variants"]["int8"]["reason"] == "It is slower."
    manifest = verify(folder_of(trainer, trainer.registry.resolve("colours:1")))
    assert (manifest.variants["int8"]["passed"], "model.int8.onnx" in manifest.files) == (False, False)


def test_a_new_try_replaces_the_one_before_and_leaves_other_precisions(
    trainer: Trainer, version: Version, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    building(monkeypatch, passes=True)
    trainer.run_here(asked(trainer, dataset, precisions=["int8", "fp16"]))
    building(monkeypatch, passes=False)
    trainer.run_here(asked(trainer, dataset))
    manifest = verify(folder_of(trainer, trainer.registry.resolve("colours:1")))
    assert {name: report["passed"] for name, report in manifest.variants.items()} == {"int8": False, "fp16": True}
    assert {name for name in manifest.files if name.endswith(".onnx")} == {"model.onnx", "model.fp16.onnx"}


def test_without_a_gpu_auto_is_int8(
    trainer: Trainer, version: Version, dataset: str, passing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.training.variants.cuda_problem", lambda: "there is no GPU")
    trainer.run_here(asked(trainer, dataset, precisions="auto"))
    assert passing == ["int8"]


def test_images_of_other_labels_are_left_out_and_told(
    trainer: Trainer, version: Version, passing: list[str], tmp_path: Path
) -> None:
    images = [
        LabelledImage(picture(label, noise=1 + n + 1000 * k), label if k else "crimson", None, f"{label}/{n}.png")
        for k, label in enumerate(LABELS)
        for n in range(40)
    ]
    job = trainer.run_here(asked(trainer, trainer.add_dataset(write_dataset(tmp_path / "mixed", images))))
    told = result_of(job)
    assert (told["left_out"], told["left_out_labels"]) == (40, ["crimson"])
    # A share of what could judge calibrates, here with the crimson ones not yet left out.
    assert told["calibrated_on"] + told["judged_on"] == 80
    assert told["judged_on"] >= FEWEST_IMAGES


def test_a_dataset_of_other_labels_is_refused(trainer: Trainer, version: Version, tmp_path: Path) -> None:
    images = [LabelledImage(picture("red", noise=n + 1), f"class {n % 4}", None, f"{n}.png") for n in range(8)]
    job = trainer.run_here(asked(trainer, trainer.add_dataset(write_dataset(tmp_path / "other", images))))
    assert job.error == {
        "code": "invalid_request",
        "detail": "dataset: none of its labels (class 0, class 1, class 2, ...) is one of the version's "
        "(red, green, blue)",
    }


def test_with_too_few_images_to_judge_by_the_report_says_so_and_nothing_is_tried(
    trainer: Trainer, version: Version, passing: list[str], tmp_path: Path
) -> None:
    few = trainer.add_dataset(colour_dataset(tmp_path / "few", per_class=10))
    job = trainer.run_here(asked(trainer, few))
    report = result_of(job)["variants"]["int8"]
    assert (report["passed"], report["images"], passing) == (False, 24, [])
    assert "at least 50" in report["reason"]
    assert trainer.registry.resolve("colours:1").manifest["variants"] == {"int8": report}


def test_progress_tells_the_phases_in_their_order(
    trainer: Trainer, version: Version, dataset: str, passing: list[str]
) -> None:
    job = trainer.run_here(asked(trainer, dataset))
    phases = [event.data["phase"] for event in trainer.ledger.events(job.id) if event.kind == "progress"]
    assert list(dict.fromkeys(phases)) == ["preparing", "trying", "publishing"]
    assert set(result_of(job)["seconds"]) == {"starting", "preparing", "trying", "publishing"}


def test_a_damaged_file_is_not_given_a_new_checksum(
    trainer: Trainer, version: Version, dataset: str, passing: list[str]
) -> None:
    trainer.blobs.put_bytes(f"{OLD}/plots/confusion.txt", b"forged")
    job = trainer.run_here(asked(trainer, dataset))
    assert job.error is not None
    assert (job.error["code"], passing) == ("artifact_unusable", [])
    assert trainer.registry.resolve("colours:1").artifact == OLD


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Happens once, while the new folder is being written among the blobs."""
    original = BlobStore.put_folder

    def put_folder(self: BlobStore, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        monkeypatch.setattr(BlobStore, "put_folder", original)
        happens()

    monkeypatch.setattr(BlobStore, "put_folder", put_folder)


def test_a_version_that_is_deleted_meanwhile_stays_deleted(
    trainer: Trainer, version: Version, dataset: str, passing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asked(trainer, dataset)
    meanwhile(monkeypatch, lambda: trainer.registry.delete_version("colours", 1))
    ended = trainer.run_here(job)
    assert ended.error is not None
    assert ended.error["code"] == "not_found"
    assert trainer.registry.list_versions("colours", 10).items == ()
    assert not trainer.blobs.list(f"models/colours/{job.id}")


def test_of_two_jobs_at_once_the_second_starts_again_from_what_the_first_made(
    trainer: Trainer, version: Version, dataset: str, passing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    late, early = asked(trainer, dataset), asked(trainer, dataset, precisions=["fp16"])
    meanwhile(monkeypatch, lambda: trainer.run_here(early))
    again = trainer.run_here(late)
    assert (again.state, again.error and again.error["code"]) == (JobState.QUEUED, "conflict")
    assert trainer.run_here(again).state == JobState.SUCCEEDED
    manifest = verify(folder_of(trainer, trainer.registry.resolve("colours:1")))
    assert set(manifest.variants) == {"int8", "fp16"}
    assert {"model.int8.onnx", "model.fp16.onnx"} <= set(manifest.files)


def test_killed_before_its_commit_it_leaves_the_old_files_and_is_done_again(
    trainer: Trainer, version: Version, dataset: str, passing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asked(trainer, dataset)

    def die(*_: object, **__: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as broken:
        broken.setattr(JobLedger, "succeed", die)
        with pytest.raises(SystemExit):
            trainer.run_here(job)
    assert trainer.registry.resolve("colours:1") == version
    work = trainer.settings.data / "work" / job.id
    (left,) = work.glob("artifact-*")
    with trainer.database.session() as session:
        session.execute(update(JobRow).values(lease_until=from_now(-1)))
    assert trainer.run_here(job).state == JobState.SUCCEEDED
    assert not left.exists()
    now = trainer.registry.resolve("colours:1")
    folders = {key.split("/")[3] for key in trainer.blobs.list(f"models/colours/{job.id}")}
    assert folders == {now.artifact.rpartition("/")[2]}


def test_killed_after_its_commit_it_leaves_the_new_files(
    trainer: Trainer, version: Version, dataset: str, passing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise SystemExit("killed")

    job = asked(trainer, dataset)
    monkeypatch.setattr(BlobStore, "delete_other_folders", die)
    with pytest.raises(SystemExit):
        trainer.run_here(job)
    ended = trainer.ledger.get(job.id)
    assert ended.state == JobState.SUCCEEDED
    now = trainer.registry.resolve("colours:1")
    assert now.artifact != OLD
    verify(folder_of(trainer, now))


def test_a_version_learnt_from_the_dataset_is_judged_by_what_did_not_train_it(
    trainer: Trainer, passing: list[str], hundred_each: DatasetFolder
) -> None:
    dataset = trainer.add_dataset(hundred_each)
    request = {**LENET, "dataset": dataset, "seed": 7, "validation": {"fraction": 0.3}}
    taught = result_of(trainer.run_here(trainer.create(**request)))
    job = trainer.ledger.get(taught["variants_job"])
    assert job.request == {"model": "colours", "version": 1, "dataset": dataset, "precisions": "auto"}
    told = result_of(trainer.run_here(job))
    assert (told["judged_on"], told["calibrated_on"]) == (90, 128)
    assert trainer.registry.resolve("colours:1").job_id != job.id


def waiting_jobs(trainer: Trainer) -> list[str]:
    return [job.kind for job in trainer.ledger.list(10, state=JobState.QUEUED).items]


@pytest.mark.parametrize("is_wanted", [False, True], ids=["not wanted", "too few images"])
def test_where_none_are_wanted_or_none_could_be_judged_a_fine_tune_leaves_no_job(
    trainer: Trainer, thirty_each: DatasetFolder, hundred_each: DatasetFolder, is_wanted: bool
) -> None:
    dataset = trainer.add_dataset(thirty_each if is_wanted else hundred_each)
    request = {**LENET, "dataset": dataset, "variants": "auto" if is_wanted else "none"}
    assert result_of(trainer.run_here(trainer.create(**request)))["variants_job"] is None
    assert waiting_jobs(trainer) == []


def test_a_fine_tune_that_dies_before_its_commit_leaves_no_job(
    trainer: Trainer, hundred_each: DatasetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise SystemExit("killed")

    monkeypatch.setattr(JobLedger, "succeed", die)
    with pytest.raises(SystemExit):
        trainer.run_here(trainer.create(**LENET, dataset=trainer.add_dataset(hundred_each)))
    assert waiting_jobs(trainer) == []
