"""A diagnosis of a dataset, from job to report: by a version's embedding, whatever its classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update
from support.cards import Reading
from support.colours import LABELS, make_colour_artifact, picture
from support.embedding import make_embedding_artifact
from support.trainer import Trainer

from models.artifact import read_manifest
from models.dataset.folder import LabelledImage, write_dataset
from storage.blobs import BlobStore
from storage.clock import from_now
from storage.job_ledger import Job, JobLedger, JobState
from storage.tables import JobRow
from workers.contract.diagnoses import PAGE, REPORT, diagnosis_key
from workers.contract.jobs.diagnose import DiagnoseResult
from workers.training import diagnose

PER_CLASS = 20
TURNED = ("red/003.png", "blue/007.png")


@pytest.fixture
def dataset(trainer: Trainer, tmp_path: Path) -> str:
    """Two of the pictures are called what they are not, by names that no model knows."""
    images = [
        LabelledImage(
            picture(colour, noise=1 + i + 1000 * k),
            f"shade {(k + (f'{colour}/{i:03d}.png' in TURNED)) % 3}",
            ("train", "val", "test")[i % 3],
            f"{colour}/{i:03d}.png",
        )
        for k, colour in enumerate(LABELS)
        for i in range(PER_CLASS)
    ]
    return trainer.add_dataset(write_dataset(tmp_path / "shades", images))


@pytest.fixture
def version(trainer: Trainer, tmp_path: Path) -> None:
    make_embedding_artifact(tmp_path / "version")
    publish(trainer, tmp_path / "version")


def publish(trainer: Trainer, folder: Path) -> None:
    trainer.blobs.put_folder("models/colours/job_0", folder)
    manifest = read_manifest(folder).to_dict()
    trainer.registry.add_version("colours", artifact="models/colours/job_0", manifest=manifest, size_bytes=1)


def asked(trainer: Trainer, dataset: str, **more: Any) -> Job:
    return trainer.create("diagnose", **{"model": "colours", "version": 1, "dataset": dataset, **more})


def report_of(trainer: Trainer, dataset: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(trainer.blobs.get_bytes(diagnosis_key(dataset, REPORT)))
    return found


def error_of(job: Job) -> tuple[str, str]:
    assert job.error is not None
    return job.error["code"], job.error["detail"]


@pytest.mark.usefixtures("version")
def test_turned_labels_of_every_split_are_named_with_what_they_should_be(trainer: Trainer, dataset: str) -> None:
    job = trainer.run_here(asked(trainer, dataset))
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    result = DiagnoseResult.model_validate(job.result)
    assert (result.dataset, result.model, result.version, result.images) == (dataset, "colours", 1, 60)
    assert result.wrong_labels == 2
    report = report_of(trainer, dataset)
    assert (report["dataset"]["id"], report["model"], report["images"], report["classes"]) == (
        dataset, "colours", 60, 3,
    )  # fmt: skip
    found = {entry["path"]: entry for entry in report["wrong_labels"]["entries"][:2]}
    assert set(found) == set(TURNED)
    red = found["red/003.png"]
    assert (red["label"], red["suggested"], red["split"], red["is_probable"]) == (
        "shade 1", "shade 0", "train", True,
    )  # fmt: skip
    assert red["score"] < 0.5 < red["suggested_probability"]
    assert red["thumbnail"] == f"/v1/datasets/{dataset}/thumbnails/{red['sha256']}"
    assert report["wrong_labels"]["checked"] == 60
    # Both are also like none of the class that they are called.
    assert {entry["path"] for entry in report["outliers"]["entries"]} >= set(TURNED)


@pytest.mark.usefixtures("version")
def test_the_page_shows_them_and_loads_nothing(trainer: Trainer, dataset: str) -> None:
    trainer.run_here(asked(trainer, dataset))
    page = Reading(trainer.blobs.get_bytes(diagnosis_key(dataset, PAGE)).decode())
    assert "By confident learning 2 of 60 labels are wrong." in page.text
    assert all(name in page.text for name in TURNED)
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
    assert page.all("script") == []


@pytest.mark.usefixtures("version")
def test_progress_tells_the_phases_in_their_order(trainer: Trainer, dataset: str) -> None:
    job = trainer.run_here(asked(trainer, dataset))
    phases = [event.data["phase"] for event in trainer.ledger.events(job.id) if event.kind == "progress"]
    assert list(dict.fromkeys(phases)) == [
        "preparing", "embedding", "judging labels", "comparing", "publishing",
    ]  # fmt: skip
    assert not trainer.blobs.list(f"jobs/{job.id}")


def test_a_version_without_an_embedding_is_refused_in_words(
    trainer: Trainer, dataset: str, tmp_path: Path
) -> None:
    make_colour_artifact(tmp_path / "version")
    publish(trainer, tmp_path / "version")
    code, detail = error_of(trainer.run_here(asked(trainer, dataset)))
    assert code == "invalid_request"
    assert "colours:1 gives no embedding" in detail


@pytest.mark.usefixtures("version")
def test_a_version_that_is_gone_and_too_many_images_are_told(
    trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert error_of(trainer.run_here(asked(trainer, dataset, version=9)))[0] == "not_found"
    monkeypatch.setattr(diagnose, "MOST_EMBEDDING_BYTES", 100)
    code, detail = error_of(trainer.run_here(asked(trainer, dataset)))
    assert (code, "60 images with 3 numbers each" in detail) == ("invalid_request", True)


@pytest.mark.usefixtures("version")
def test_what_would_take_too_long_is_left_out_with_the_reason(
    trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnose, "MOST_OF_A_HEAD", 10)
    monkeypatch.setattr(diagnose, "MOST_OF_COMPARING", 10)
    assert trainer.run_here(asked(trainer, dataset)).state == JobState.SUCCEEDED
    report = report_of(trainer, dataset)
    assert "too many to leave out each" in report["wrong_labels"]["reason"]
    assert "too many images of a class" in report["outliers"]["reason"]
    assert (report["wrong_labels"]["entries"], report["near_duplicates"]["checked"]) == ([], 0)


@pytest.mark.usefixtures("version")
def test_classes_of_few_images_are_said_not_to_be_judged(trainer: Trainer, tmp_path: Path) -> None:
    images = [
        LabelledImage(picture("red", noise=i + 1), "many" if i < 12 else f"rare {i % 2}", None, f"{i:02d}.png")
        for i in range(16)
    ]
    dataset = trainer.add_dataset(write_dataset(tmp_path / "few", images))
    assert trainer.run_here(asked(trainer, dataset)).state == JobState.SUCCEEDED
    report = report_of(trainer, dataset)
    assert "at least two classes with 5 different images each" in report["wrong_labels"]["reason"]
    assert report["near_duplicates"]["checked"] == 16


@pytest.mark.usefixtures("version")
def test_killed_before_its_end_it_is_done_again_and_leaves_what_the_first_would_have(
    trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise SystemExit("killed")

    job = asked(trainer, dataset)
    with monkeypatch.context() as broken:
        broken.setattr(JobLedger, "succeed", die)
        with pytest.raises(SystemExit):
            trainer.run_here(job)
    first = report_of(trainer, dataset)
    with trainer.database.session() as session:
        session.execute(update(JobRow).values(lease_until=from_now(-1)))
    assert trainer.run_here(job).state == JobState.SUCCEEDED
    again = report_of(trainer, dataset)
    assert {**first, "created_at": ""} == {**again, "created_at": ""}
    assert len(trainer.blobs.list(f"datasets/{dataset}/diagnosis")) == 2


@pytest.mark.usefixtures("version")
def test_a_cancelled_one_writes_nothing(trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = asked(trainer, dataset)
    original = diagnose.leave_out

    def cancelled(*args: Any) -> Any:
        trainer.ledger.request_cancel(job.id)
        trainer.wait_until(lambda: trainer.ledger.get(job.id).cancel_requested, "the cancellation")
        found = original(*args)
        for _ in range(200):
            # Heard at the lease's next renewal.
            args[2].check()
            np.linalg.svd(np.ones((200, 200)))
        return found

    monkeypatch.setattr(diagnose, "leave_out", cancelled)
    monkeypatch.setattr("workers.jobs.lease.RENEWAL_S", 0.01)
    assert trainer.run_here(job).state == JobState.CANCELLED
    assert trainer.blobs.list(f"datasets/{dataset}/diagnosis") == []


@pytest.mark.usefixtures("version")
def test_what_the_network_learnt_from_as_a_whole_is_said_to_hide_errors(
    trainer: Trainer, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(tmp_path / "version")
    content = trainer.datasets.get(dataset).content_hash
    said: list[list[str]] = []
    for strategy in ("head", "full"):
        learnt = {**manifest.to_dict(), "dataset": {"content_hash": content}, "recipe": {"strategy": strategy}}
        monkeypatch.setattr(diagnose, "verify", lambda *_, learnt=learnt: type(manifest).from_dict(learnt))
        trainer.run_here(asked(trainer, dataset))
        said.append(report_of(trainer, dataset)["warnings"])
    assert said[0] == []
    assert "learnt as a whole from these labels" in said[1][0]


@pytest.mark.usefixtures("version")
def test_a_full_disk_is_tried_again(trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BlobStore, "put_bytes", full)
    job = trainer.run_here(asked(trainer, dataset))
    assert (job.state, job.error and job.error["code"]) == (JobState.QUEUED, "disk_full")
