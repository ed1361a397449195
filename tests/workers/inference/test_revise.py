"""A dataset with changes becomes another one, which shares its files; whatever is killed in between."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.colours import LABELS, picture
from support.world import World, archive_of, cancel_at_check, colours_archive

from models.dataset.folder import DatasetFolder
from storage.blobs import BlobStore
from storage.dataset_files import files_of
from storage.datasets import Dataset, DatasetState
from storage.errors import InUse
from storage.ids import new_id
from storage.job_ledger import Job, JobLedger, JobState
from workers.inference.ingest import IngestJob
from workers.inference.labelled import LabelledDatasets
from workers.inference.revise import ReviseJob


class Killed(BaseException):
    """As far as the test's process can be killed: nothing of ours catches it."""


@pytest.fixture
def revise(world: World) -> ReviseJob:
    return ReviseJob(world.datasets, world.blobs, world.folder / "scratch")


@pytest.fixture
def parent(world: World) -> Dataset:
    """Nine pictures, three of each colour."""
    return ingested(world, colours_archive())


def ingested(world: World, archive: bytes) -> Dataset:
    job, dataset = world.upload(archive)
    assert world.run(job, IngestJob(world.datasets, world.blobs, world.folder / "scratch")).error is None
    return world.datasets.get(dataset.id)


def asked(world: World, parent: Dataset, changes: Mapping[str, Any], archive: bytes | None = None) -> Job:
    """As the gateway leaves it: blobs, dataset and job."""
    job_id, dataset_id = new_id("job"), new_id("ds")
    world.blobs.put_bytes(f"jobs/{job_id}/changes", json.dumps(changes).encode())
    upload = ""
    if archive is not None:
        upload = f"jobs/{job_id}/upload"
        world.blobs.put_bytes(upload, archive)
    world.datasets.add(
        "colours", dataset_id=dataset_id, prefix=f"datasets/{dataset_id}", job_id=job_id, parent=parent
    )
    request = {"dataset": dataset_id, "parent": parent.id, "changes": f"jobs/{job_id}/changes", "upload": upload}
    return world.ledger.create("revise", request, job_id=job_id)


def opened(world: World, dataset: Dataset) -> DatasetFolder:
    folder, *sources = (
        folder for prefix in (dataset.prefix, *dataset.sources) if (folder := world.blobs.folder_of(prefix))
    )
    found = DatasetFolder.open(folder, sources)
    found.verify()
    return found


def labels_of(world: World, dataset: Dataset) -> dict[str, str]:
    return {sample.name: sample.label for sample in opened(world, dataset).samples}


def result_of(job: Job) -> dict[str, Any]:
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    assert job.result is not None
    return job.result


def revised(
    world: World, revise: ReviseJob, parent: Dataset, archive: bytes | None = None, **changes: Any
) -> Dataset:
    result = result_of(world.run(asked(world, parent, changes, archive), revise))
    return world.datasets.get(result["dataset"])


def test_a_revision_is_another_dataset_that_has_no_copy_of_what_it_shares(
    world: World, revise: ReviseJob, parent: Dataset
) -> None:
    before = labels_of(world, parent)
    job = asked(world, parent, {"relabel": [{"image": "red/0.png", "label": "green"}], "remove": ["red/1.png"]})
    result = result_of(world.run(job, revise))
    assert (result["relabelled"], result["removed"], result["added"], result["images"]) == (1, 1, 0, 8)
    revision = world.datasets.get(result["dataset"])
    assert (revision.state, revision.parent, revision.root, revision.revision) == (
        "ready",
        parent.id,
        parent.id,
        2,
    )
    expected = {**before, "red/0.png": "green"}
    del expected["red/1.png"]
    assert labels_of(world, revision) == expected
    assert labels_of(world, parent) == before
    names = {key.removeprefix(f"{revision.prefix}/") for key in world.blobs.list(revision.prefix)}
    assert names == {"samples.jsonl", "report.json", "dataset.json", "draw.json"}
    assert not world.blobs.list("jobs")
    changed = revision.report["revision"]
    assert changed["relabelled"] == [{"from": "red", "to": "green", "images": 1}]
    assert (changed["removed"], changed["parent"], changed["number"]) == ({"red": 1}, parent.id, 2)


def test_images_of_none_are_no_class_of_a_revision_and_an_image_can_be_made_one(
    world: World, revise: ReviseJob
) -> None:
    strange = archive_of(
        {
            f"{label}/{n}.png": picture(colour, noise=n + 10 * place)
            for place, (label, colour) in enumerate(zip(("red", "green", "none"), LABELS, strict=True))
            for n in range(3)
        }
    )
    parent = ingested(world, strange)
    revision = revised(world, revise, parent, relabel=[{"image": "red/0.png", "label": "none"}])
    assert (parent.labels, revision.labels) == (("green", "red"), ("green", "red"))
    assert opened(world, revision).labels == revision.labels
    assert (revision.counts["none"], revision.counts["red"]) == ({"all": 4}, {"all": 2})
    everything = revised(world, revise, parent, remove=[f"none/{n}.png" for n in range(3)])
    assert "class_gone" not in {fault["code"] for fault in everything.report["faults"]}


def test_a_revision_of_a_revision_leads_to_the_files_of_the_first(
    world: World, revise: ReviseJob, parent: Dataset
) -> None:
    second = revised(world, revise, parent, remove=["red/0.png"])
    third = revised(world, revise, second, relabel=[{"image": "red/1.png", "label": "blue"}])
    assert (third.parent, third.root, third.revision) == (second.id, parent.id, 3)
    assert third.sources == (parent.prefix,)
    assert len(opened(world, third).samples) == 8
    sample = opened(world, third).samples[0]
    assert files_of(world.blobs, third).get_bytes(f"thumbnails/{sample.sha256}.webp")


def test_added_images_are_checked_and_kept_once(world: World, revise: ReviseJob, parent: Dataset) -> None:
    known = picture("red", noise=1)
    archive = archive_of(
        {
            "red/new.png": picture("red", noise=77),
            "red/again.png": known,
            "green/conflict.png": picture("red", noise=2),
            "red/broken.png": b"no picture",
            "violet/1.png": picture("blue", noise=78),
            "violet/2.png": picture("blue", noise=79),
        }
    )
    revision = revised(world, revise, parent, archive)
    assert labels_of(world, revision).keys() - labels_of(world, parent).keys() == {
        "red/new.png",
        "violet/1.png",
        "violet/2.png",
    }
    assert revision.labels == ("blue", "green", "red", "violet")
    faults = {fault["file"]: fault["code"] for fault in revision.report["faults"] if fault["file"]}
    assert faults == {
        "red/again.png": "duplicate",
        "green/conflict.png": "conflicting_labels",
        "red/broken.png": "not_an_image",
    }
    own = [key for key in world.blobs.list(revision.prefix) if "/files/" in key]
    assert len(own) == 3
    assert revision.report["revision"]["added"] == {"red": 1, "violet": 2}
    third = revised(world, revise, revision, remove=["red/0.png"])
    assert third.sources == tuple(sorted((parent.prefix, revision.prefix)))
    assert len(opened(world, third).samples) == 11


def test_what_was_removed_may_be_added_again_with_another_label(
    world: World, revise: ReviseJob, parent: Dataset
) -> None:
    archive = archive_of({"green/mine.png": picture("red", noise=1)})
    revision = revised(world, revise, parent, archive, remove=["red/0.png"])
    labels = labels_of(world, revision)
    assert labels["green/mine.png"] == "green"
    assert "red/0.png" not in labels


def test_changes_that_cannot_be_made_are_all_named_and_none_is_made(
    world: World, revise: ReviseJob, parent: Dataset
) -> None:
    changes = {
        "relabel": [{"image": "red/9.png", "label": "blue"}, {"image": "0.png", "label": "blue"}],
        "remove": ["red/0.png", hashlib.sha256(picture("red", noise=1)).hexdigest()],
        "move": [{"image": "red/1.png", "split": "val"}],
    }
    job = asked(world, parent, changes)
    ended = world.run(job, revise)
    assert ended.error is not None
    assert (ended.state, ended.error["code"], ended.attempt) == (JobState.FAILED, "dataset_refused", 1)
    refused = world.datasets.get(job.request["dataset"])
    assert {
        (fault["code"], fault["file"]) for fault in refused.report["faults"] if fault["severity"] == "error"
    } == {
        ("unknown_image", "red/9.png"),
        ("ambiguous_image", "0.png"),
        ("named_twice", changes["remove"][1]),
        ("no_such_split", "red/1.png"),
    }
    assert not files_below(world, refused.id)


def files_below(world: World, dataset_id: str) -> list[str]:
    return world.blobs.list(f"datasets/{dataset_id}")


def test_a_class_may_go_and_one_must_stay(world: World, revise: ReviseJob, parent: Dataset) -> None:
    red, blue = ([f"{colour}/{i}.png" for i in range(3)] for colour in ("red", "blue"))
    revision = revised(world, revise, parent, remove=red)
    assert revision.labels == ("blue", "green")
    assert [fault["label"] for fault in revision.report["faults"] if fault["code"] == "class_gone"] == ["red"]
    ended = world.run(asked(world, parent, {"remove": [*red, *blue]}), revise)
    assert ended.error is not None
    assert "there is one class only, 'green'" in ended.error["detail"]


@pytest.mark.parametrize("changes", [{}, {"relabel": [{"image": "red/0.png", "label": "red"}]}])
def test_what_changes_nothing_leads_to_the_dataset_itself(
    world: World, revise: ReviseJob, parent: Dataset, changes: dict[str, Any]
) -> None:
    job = asked(world, parent, changes)
    result = result_of(world.run(job, revise))
    assert (result["dataset"], result["duplicate_of"]) == (parent.id, parent.id)
    assert world.datasets.get(job.request["dataset"]).id == parent.id
    assert not files_below(world, job.request["dataset"])
    world.datasets.delete(parent.id)
    assert not world.datasets.kept.list()


def test_what_is_changed_back_leads_to_the_first(world: World, revise: ReviseJob, parent: Dataset) -> None:
    second = revised(world, revise, parent, relabel=[{"image": "red/0.png", "label": "blue"}])
    assert revised(world, revise, second, relabel=[{"image": "red/0.png", "label": "red"}]).id == parent.id


def test_splits_are_kept_and_images_can_be_moved_between_them(world: World, revise: ReviseJob) -> None:
    split = ingested(
        world,
        archive_of(
            {
                f"{split}/{colour}/{i}.png": picture(colour, noise=1 + i + 10 * k + 100 * n)
                for n, split in enumerate(("train", "val"))
                for k, colour in enumerate(LABELS)
                for i in range(2)
            }
        ),
    )
    archive = archive_of({"red/new.png": picture("red", noise=900)})
    revision = revised(world, revise, split, archive, move=[{"image": "val/red/0.png", "split": "train"}])
    splits = {sample.name: sample.split for sample in opened(world, revision).samples}
    assert (splits["val/red/0.png"], splits["red/new.png"], splits["val/red/1.png"]) == ("train", "train", "val")
    assert revision.report["revision"]["moved"] == [{"from": "val", "to": "train", "images": 1}]


def test_splits_are_not_added_to_a_dataset_that_has_none(world: World, revise: ReviseJob, parent: Dataset) -> None:
    archive = archive_of({f"train/{colour}/x.png": picture(colour, noise=800) for colour in LABELS})
    ended = world.run(asked(world, parent, {}, archive), revise)
    assert ended.error is not None
    assert ended.error["code"] == "layout_unclear"


def test_a_dataset_stays_while_it_is_revised(world: World, revise: ReviseJob, parent: Dataset) -> None:
    job = asked(world, parent, {"remove": ["red/0.png"]})
    with pytest.raises(InUse, match=job.id):
        world.datasets.delete(parent.id)
    world.run(job, revise)
    world.datasets.delete(parent.id)
    assert [kept.prefix for kept in world.datasets.kept.list()] == [parent.prefix]


@pytest.mark.parametrize(
    ("what", "name"), [(BlobStore, "put_folder"), (JobLedger, "succeed"), (JobLedger, "transaction")]
)
def test_killed_before_its_end_it_is_done_again_by_the_next_attempt(
    world: World, revise: ReviseJob, parent: Dataset, monkeypatch: pytest.MonkeyPatch, what: Any, name: str
) -> None:
    archive = archive_of({"red/new.png": picture("red", noise=77)})
    job = asked(world, parent, {"remove": ["red/0.png"]}, archive)

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(what, name, die)
        with pytest.raises(Killed):
            world.run(job, revise)
    revision = job.request["dataset"]
    assert world.datasets.get(revision).state == DatasetState.CHECKING
    assert world.blobs.exists(f"jobs/{job.id}/changes")
    world.expire()
    ended = world.run(job, revise)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    ready = world.datasets.get(revision)
    assert len(opened(world, ready).samples) == 9
    assert {key.split("/")[2] for key in files_below(world, revision)} == {ready.prefix.rpartition("/")[2]}


def test_killed_at_its_end_it_stays_ready(
    world: World, revise: ReviseJob, parent: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asked(world, parent, {"remove": ["red/0.png"]})

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(BlobStore, "delete_other_folders", die)
        with pytest.raises(Killed):
            world.run(job, revise)
    world.expire()
    assert world.ledger.take(job.id, "elsewhere", 30) is None
    assert len(opened(world, world.datasets.get(job.request["dataset"])).samples) == 8


def test_a_cancelled_revision_is_refused_and_holds_nothing(
    world: World, revise: ReviseJob, parent: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asked(world, parent, {"remove": ["red/0.png"]}, archive_of({"red/new.png": picture("red", noise=77)}))
    cancel_at_check(2, world, job, monkeypatch)
    assert world.run(job, revise).state == JobState.CANCELLED
    assert world.datasets.get(job.request["dataset"]).state == DatasetState.REFUSED
    assert not files_below(world, job.request["dataset"])
    world.datasets.delete(parent.id)
    assert not world.datasets.kept.list()


def test_an_inference_worker_reads_the_pictures_and_the_draw_of_a_revision(
    world: World, revise: ReviseJob, parent: Dataset, tmp_path: Path
) -> None:
    revision = revised(world, revise, parent, remove=["red/0.png"])
    found = LabelledDatasets(world.datasets, world.blobs, tmp_path).open(revision.id)
    for sample in found.folder.samples:
        content = world.blobs.get_bytes(found.key_of(sample))
        assert hashlib.sha256(content).hexdigest() == sample.sha256
        assert found.sizes()[found.key_of(sample)] == len(content)
        assert found.thumbnail(sample.sha256)
    assert found.folder.draw == opened(world, revision).draw is not None
