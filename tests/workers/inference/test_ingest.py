"""An upload becomes a dataset exactly once, whatever is killed, paused or cancelled in between."""

from pathlib import Path
from typing import Any

import pytest
from support.colours import LABELS, picture
from support.world import World, archive_of, cancel_at_check, colours_archive

from models.dataset.folder import DatasetFolder
from models.training.interruption import Interrupted
from storage.blobs import BlobStore
from storage.datasets import DatasetState
from storage.errors import BlobsUnavailable
from storage.job_ledger import Job, JobLedger, JobState
from workers.inference.ingest import IngestJob
from workers.jobs.attempt import RunningAttempt
from workers.jobs.lease import CANCELLED


@pytest.fixture
def ingest(world: World) -> IngestJob:
    return IngestJob(world.datasets, world.blobs, world.folder / "scratch")


class Killed(BaseException):
    """As far as the test's process can be killed: nothing of ours catches it."""


def files_of(world: World, dataset_id: str) -> list[str]:
    return world.blobs.list(f"datasets/{dataset_id}")


def opened(world: World, dataset_id: str) -> DatasetFolder:
    folder = world.blobs.folder_of(world.datasets.get(dataset_id).prefix)
    assert folder is not None
    return DatasetFolder.open(folder)


def test_an_archive_becomes_a_dataset_and_is_deleted(world: World, ingest: IngestJob) -> None:
    job, dataset = world.upload(colours_archive())
    ended = world.run(job, ingest)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    assert ended.result == {
        "dataset": dataset.id,
        "images": 9,
        "faults": {"class_too_small": 3},
        "duplicate_of": None,
    }
    ready = world.datasets.get(dataset.id)
    assert (ready.state, ready.labels) == (DatasetState.READY, tuple(sorted(LABELS)))
    assert len(opened(world, dataset.id).samples) == 9
    assert not world.blobs.list("jobs")
    assert not list((world.folder / "scratch").iterdir())


def test_progress_is_told(world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.inference.ingest.REPORT_EVERY_S", 0.0)
    job, _ = world.upload(colours_archive())
    world.run(job, ingest)
    phases = [event.data["phase"] for event in world.ledger.events(job.id) if event.kind == "progress"]
    assert phases
    assert {"done", "total"} <= set(world.ledger.get(job.id).progress)


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        (b"no archive", "archive_unreadable"),
        (archive_of({"red/1.png": picture("red")}), "dataset_refused"),
        (archive_of({"../red/1.png": picture("red")}), "unsafe_archive"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    world: World, ingest: IngestJob, archive: bytes, code: str
) -> None:
    job, dataset = world.upload(archive)
    ended = world.run(job, ingest)
    assert ended.error is not None
    assert (ended.state, ended.error["code"], ended.attempt) == (JobState.FAILED, code, 1)
    refused = world.datasets.get(dataset.id)
    assert (refused.state, "; ".join(refused.report["refusals"])) == (DatasetState.REFUSED, ended.error["detail"])
    assert not world.blobs.list()


def test_faults_are_refused_where_that_was_asked_for_with_the_whole_report(
    world: World, ingest: IngestJob
) -> None:
    archive = archive_of(
        {f"{c}/{i}.png": picture(c, noise=i + 1) for c in LABELS for i in range(2)} | {"red/bad.png": b"no"}
    )
    job, dataset = world.upload(archive, on_fault="refuse")
    world.run(job, ingest)
    report = world.datasets.get(dataset.id).report
    assert [fault["file"] for fault in report["faults"] if fault["code"] == "not_an_image"] == ["red/bad.png"]


def test_known_content_is_no_failure_and_names_the_dataset_that_has_it(world: World, ingest: IngestJob) -> None:
    first, dataset = world.upload(colours_archive())
    world.run(first, ingest)
    second, again = world.upload(colours_archive())
    ended = world.run(second, ingest)
    assert ended.state == JobState.SUCCEEDED
    assert ended.result is not None
    assert (ended.result["dataset"], ended.result["duplicate_of"]) == (dataset.id, dataset.id)
    assert world.datasets.get(again.id).id == dataset.id
    assert [found.id for found in world.datasets.list(10).items] == [dataset.id]
    assert not files_of(world, again.id)
    assert not world.blobs.list("jobs")


def kill_at(
    what: Any, name: str, world: World, ingest: IngestJob, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs the job in a process that ends when it comes to `what.name`."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(what, name, die)
        with pytest.raises(Killed):
            world.run(job, ingest)


@pytest.mark.parametrize(
    ("what", "name"), [(BlobStore, "put_folder"), (JobLedger, "succeed"), (JobLedger, "transaction")]
)
def test_killed_before_its_end_it_is_done_again_by_the_next_attempt(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch, what: Any, name: str
) -> None:
    job, dataset = world.upload(colours_archive())
    kill_at(what, name, world, ingest, job, monkeypatch)
    assert world.datasets.get(dataset.id).state == DatasetState.CHECKING
    assert world.blobs.exists(f"jobs/{job.id}/upload")
    world.expire()
    ended = world.run(job, ingest)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert len(opened(world, dataset.id).samples) == 9
    # What the first attempt had written under its own name is gone.
    assert {key.split("/")[2] for key in files_of(world, dataset.id)} == {
        world.datasets.get(dataset.id).prefix.rpartition("/")[2]
    }


def test_killed_at_its_end_it_stays_ready(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is deleted last: whoever finds it gone finds the job ended too."""
    job, dataset = world.upload(colours_archive())
    kill_at(BlobStore, "delete_other_folders", world, ingest, job, monkeypatch)
    assert world.ledger.get(job.id).state == JobState.SUCCEEDED
    assert world.datasets.get(dataset.id).state == DatasetState.READY
    world.expire()
    assert world.ledger.take(job.id, "elsewhere", 30) is None
    assert len(opened(world, dataset.id).samples) == 9


def test_an_attempt_that_finds_its_work_done_ends_the_job(world: World, ingest: IngestJob) -> None:
    """As the release before this one left it: ready, the archive deleted, the job not ended."""
    job, dataset = world.upload(colours_archive())
    world.datasets.record_check(dataset.id, DatasetState.READY, content_hash="x", report={"images": 9})
    world.blobs.delete(f"jobs/{job.id}/upload")
    ended = world.run(job, ingest)
    assert ended.state == JobState.SUCCEEDED
    assert ended.result is not None
    assert ended.result["images"] == 9
    assert world.datasets.get(dataset.id).state == DatasetState.READY


def test_a_zombie_changes_nothing_that_its_heir_has_done(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused for longer than its lease in the middle, overtaken, and woken."""
    job, dataset = world.upload(colours_archive())
    zombie = world.take(job)
    original = BlobStore.put_folder

    def be_overtaken(self: BlobStore, prefix: str, folder: Path, last: str = "manifest.json") -> None:
        monkeypatch.setattr(BlobStore, "put_folder", original)
        assert world.run(job, ingest, world.overtake(job, "heir")).state == JobState.SUCCEEDED
        original(self, prefix, folder, last)

    monkeypatch.setattr(BlobStore, "put_folder", be_overtaken)
    after = world.run(job, ingest, zombie)
    assert (after.state, after.worker) == (JobState.SUCCEEDED, "heir")
    ready = world.datasets.get(dataset.id)
    assert (ready.state, ready.report.get("refusals")) == (DatasetState.READY, [])
    assert len(opened(world, dataset.id).samples) == 9
    assert {key.split("/")[2] for key in files_of(world, dataset.id)} == {ready.prefix.rpartition("/")[2]}


def test_a_cancelled_check_refuses_its_dataset(world: World, ingest: IngestJob) -> None:
    job, dataset = world.upload(colours_archive())
    world.ledger.request_cancel(job.id)

    def ingest_once_told(attempt: RunningAttempt) -> None:
        while True:
            attempt.check()

    running, other = world.upload(colours_archive(seed=1))
    attempt = world.take(running)
    world.ledger.request_cancel(running.id)
    assert world.run(running, ingest_once_told, attempt).state == JobState.CANCELLED
    for refused in (dataset, other):
        found = world.datasets.get(refused.id)
        assert (found.state, found.report) == (DatasetState.REFUSED, {"refusals": ["The check was cancelled."]})


def test_a_cancellation_is_heard_between_two_files(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, dataset = world.upload(colours_archive())
    cancel_at_check(4, world, job, monkeypatch)
    assert world.run(job, ingest).state == JobState.CANCELLED
    assert world.datasets.get(dataset.id).state == DatasetState.REFUSED
    assert not files_of(world, dataset.id)
    assert not list((world.folder / "scratch").iterdir())


def test_a_store_that_is_away_costs_an_attempt_and_not_the_dataset(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, dataset = world.upload(colours_archive())

    def away(*_: object, **__: object) -> None:
        raise BlobsUnavailable("'jobs/x' in 's3://bucket' cannot be read: timed out")

    with monkeypatch.context() as broken:
        broken.setattr(BlobStore, "get_files", away)
        waiting = world.run(job, ingest)
    assert (waiting.state, waiting.error) == (
        JobState.QUEUED,
        {"code": "blobs_unavailable", "detail": "The store of files could not be read or written."},
    )
    assert world.datasets.get(dataset.id).state == DatasetState.CHECKING
    assert world.run(job, ingest).state == JobState.SUCCEEDED


def test_after_its_last_attempt_the_dataset_is_refused(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, dataset = world.upload(colours_archive())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/srv/cache")

    monkeypatch.setattr(BlobStore, "get_files", full)
    for _ in range(3):
        ended = world.run(job, ingest)
    assert ended.state == JobState.FAILED
    refused = world.datasets.get(dataset.id)
    assert refused.state == DatasetState.REFUSED
    assert "The worker's disk is full." in refused.report["refusals"][0]


def test_stopped_while_its_files_are_written_it_leaves_none(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, dataset = world.upload(colours_archive())
    put_folder = BlobStore.put_folder

    def be_cancelled(self: BlobStore, prefix: str, folder: Path, last: str = "manifest.json") -> None:
        put_folder(self, prefix, folder, last)
        monkeypatch.setattr(RunningAttempt, "check", cancelled)
        monkeypatch.setattr("workers.jobs.lease.Lease.check", cancelled)

    def cancelled(*_: object) -> None:
        raise Interrupted(CANCELLED)

    monkeypatch.setattr(BlobStore, "put_folder", be_cancelled)
    world.run(job, ingest)
    assert not files_of(world, dataset.id)


def test_a_duplicate_keeps_no_files_of_an_attempt_that_was_killed(
    world: World, ingest: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, dataset = world.upload(colours_archive())
    kill_at(JobLedger, "transaction", world, ingest, job, monkeypatch)
    assert files_of(world, dataset.id)
    same, _ = world.upload(colours_archive())
    assert world.run(same, ingest).state == JobState.SUCCEEDED
    world.expire()
    ended = world.run(job, ingest)
    assert ended.result is not None
    assert ended.result["duplicate_of"]
    assert not files_of(world, dataset.id)
