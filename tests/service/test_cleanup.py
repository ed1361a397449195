"""What nobody needs goes; what somebody may still need stays."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from service.cleanup import Cleanup
from storage.audit import AuditLog
from storage.blobs import BlobStore
from storage.clock import from_now
from storage.database import Database, migrate, open_database
from storage.datasets import DatasetRegistry, DatasetState
from storage.ids import new_id
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry
from storage.sketches import SketchBook
from storage.tables import DatasetRow, JobRow
from system.scratch import scratch_folder


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    migrate(f"sqlite:///{tmp_path}/fovea.db")
    opened = open_database(f"sqlite:///{tmp_path}/fovea.db")
    yield opened
    opened.close()


def cleanup_of(database: Database, tmp_path: Path, keep_images_h: float = 0) -> Cleanup:
    return Cleanup(
        JobLedger(database),
        DatasetRegistry(database),
        ModelRegistry(database),
        BlobStore(str(tmp_path / "blobs")),
        tmp_path / "uploads",
        keep_jobs=timedelta(days=90),
        keep_images=timedelta(hours=keep_images_h),
        audit=AuditLog(database),
        keep_audit=timedelta(days=365),
        sketches=SketchBook(database),
        keep_sketches=timedelta(days=30),
    )


def made(cleanup: Cleanup, kind: str, *, ended: bool) -> str:
    job = cleanup.ledger.create(kind, {})
    cleanup.blobs.put_bytes(f"jobs/{job.id}/images/0000", b"a client's photograph")
    if ended:
        attempt = cleanup.ledger.take(job.id, "w", 30)
        assert attempt is not None
        cleanup.ledger.succeed(attempt, {})
    return job.id


def kept(cleanup: Cleanup) -> set[str]:
    return set(cleanup.blobs.folders("jobs"))


def test_files_of_ended_jobs_go_and_of_others_stay(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    for kind in ("classify", "ingest", "finetune"):
        made(cleanup, kind, ended=True)
    waiting = made(cleanup, "classify", ended=False)
    cancelled = made(cleanup, "ingest", ended=False)
    cleanup.ledger.request_cancel(cancelled)
    cleanup.delete_job_files()
    assert kept(cleanup) == {waiting}
    assert [folder.name for folder in (tmp_path / "blobs" / "jobs").iterdir()] == [waiting]


@pytest.mark.parametrize("kind", ["classify_many", "evaluate"])
def test_results_stay_as_long_as_the_record_of_their_job(database: Database, tmp_path: Path, kind: str) -> None:
    cleanup = cleanup_of(database, tmp_path)
    job = cleanup.ledger.create(kind, {}, job_id="job_01J9Z3NDEKTSV4RRFFQ69G5FAV")
    cleanup.blobs.put_bytes(f"jobs/{job.id}/results/000000.jsonl", b"")
    cleanup.ledger.request_cancel(job.id)
    cleanup.delete_job_files()
    assert kept(cleanup) == {job.id}
    with database.session() as session:
        session.execute(update(JobRow).values(finished_at=from_now(-91 * 24 * 3600)))
    cleanup.prune_jobs()
    cleanup.delete_job_files()
    assert kept(cleanup) == set()


def test_the_operators_images_are_left_alone(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    cleanup.blobs.put_bytes("images/2026/a.png", b"an operator's photograph")
    for _ in range(2):
        cleanup.delete_job_files()
        cleanup.delete_orphans()
        cleanup.delete_files_of_the_first_release()
        cleanup.blobs.sweep()
    assert cleanup.blobs.list() == ["images/2026/a.png"]


def test_images_of_clients_may_be_kept_for_a_while(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path, keep_images_h=2)
    images = made(cleanup, "classify", ended=True)
    made(cleanup, "ingest", ended=True)
    cleanup.delete_job_files()
    assert kept(cleanup) == {images}
    with database.session() as session:
        session.execute(update(JobRow).values(finished_at=from_now(-2 * 3600 - 1)))
    cleanup.delete_job_files()
    assert kept(cleanup) == set()


def test_files_go_with_the_record_of_their_job(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path, keep_images_h=1e6)
    made(cleanup, "classify", ended=True)
    with database.session() as session:
        session.execute(update(JobRow).values(finished_at=from_now(-91 * 86400)))
    cleanup.prune_jobs()
    cleanup.delete_job_files()
    # The record is gone, and the id is too young to say whether its job is only about to be made.
    (young,) = kept(cleanup)
    old = "job_" + "0" * 26
    cleanup.blobs.put_bytes(f"jobs/{old}/upload", b"x")
    cleanup.delete_job_files()
    assert kept(cleanup) == {young}


def test_files_whose_job_is_about_to_be_made_stay(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    coming = new_id("job")
    cleanup.blobs.put_bytes(f"jobs/{coming}/upload", b"x")
    cleanup.delete_job_files()
    assert kept(cleanup) == {coming}


def test_bodies_of_killed_gateways_go_and_those_on_their_way_stay(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    cleanup.sweep_uploads()
    with scratch_folder(tmp_path / "uploads") as mine:
        (tmp_path / "uploads" / "scratch-dead").mkdir()
        os.utime(tmp_path / "uploads" / "scratch-dead", (1, 1))
        cleanup.sweep_uploads()
        assert [folder.name for folder in (tmp_path / "uploads").iterdir()] == [mine.parent.name]


def test_it_goes_on_while_something_cannot_be_reached(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    cleanup = cleanup_of(database, tmp_path)
    made(cleanup, "ingest", ended=True)
    swept: list[datetime] = []

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(JobLedger, "prune", fail)
    monkeypatch.setattr(BlobStore, "sweep", lambda _: swept.append(datetime.now(UTC)))

    async def run() -> None:
        running = asyncio.create_task(cleanup.run(interval_s=0.01))
        deadline = time.monotonic() + 10
        while len(swept) < 2 and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()

    asyncio.run(run())
    assert len(swept) >= 2
    assert kept(cleanup) == set()


def failed(cleanup: Cleanup, kind: str, request: dict[str, str]) -> str:
    job = cleanup.ledger.create(kind, request)
    attempt = cleanup.ledger.take(job.id, "w", 30)
    assert attempt is not None
    cleanup.ledger.fail(attempt, "internal", "why")
    cleanup.blobs.put_bytes(f"jobs/{job.id}/note", b"x")
    return job.id


def test_files_of_a_version_that_was_never_registered_go(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    job = failed(cleanup, "finetune", {"model": "ants"})
    cleanup.blobs.put_bytes(f"models/ants/{job}/attempt/model.onnx", b"x")
    cleanup.delete_job_files()
    assert cleanup.blobs.list() == []


def test_files_of_a_registered_version_stay_however_its_job_ended(database: Database, tmp_path: Path) -> None:
    """The first release registered a version before it compared and promoted it: that could still fail the job."""
    cleanup = cleanup_of(database, tmp_path)
    job = failed(cleanup, "finetune", {"model": "ants"})
    artifact = f"models/ants/{job}/attempt"
    cleanup.blobs.put_bytes(f"{artifact}/model.onnx", b"x")
    cleanup.registry.add_version("ants", artifact=artifact, manifest={}, size_bytes=1, job_id=job)
    cleanup.delete_job_files()
    assert cleanup.blobs.list() == [f"{artifact}/model.onnx"]


def test_files_that_a_variants_job_wrote_stay_while_they_are_a_versions(
    database: Database, tmp_path: Path
) -> None:
    """However the jobs ended that wrote the one and the other. What is replaced goes as an orphan, not at once."""
    cleanup = cleanup_of(database, tmp_path)
    taught, tried, vain = (failed(cleanup, kind, {"model": "m"}) for kind in ("finetune", "variants", "variants"))
    old, new = f"models/m/{taught}/attempt", f"models/m/{tried}/attempt"
    for folder in (old, new, f"models/m/{vain}/attempt"):
        cleanup.blobs.put_bytes(f"{folder}/manifest.json", b"{}")
    cleanup.registry.add_version("m", artifact=old, manifest={}, size_bytes=1, job_id=taught)
    cleanup.registry.replace_artifact("m", 1, expected=old, artifact=new, manifest={}, size_bytes=2)
    cleanup.delete_job_files()
    assert set(cleanup.blobs.folders("models/m")) == {taught, tried}
    cleanup.delete_orphans()
    assert set(cleanup.blobs.folders("models/m")) == {taught, tried}
    cleanup.delete_orphans()
    assert set(cleanup.blobs.folders("models/m")) == {tried}


def test_files_that_were_replaced_before_their_job_was_cleaned_up_go_as_orphans(
    database: Database, tmp_path: Path
) -> None:
    cleanup = cleanup_of(database, tmp_path)
    first = cleanup.ledger.create("variants", {"model": "m"})
    attempt = cleanup.ledger.take(first.id, "w", 30)
    assert attempt is not None
    cleanup.ledger.succeed(attempt, {})
    cleanup.blobs.put_bytes(f"jobs/{first.id}/registering", b"x")
    cleanup.blobs.put_bytes(f"models/m/{first.id}/attempt/manifest.json", b"{}")
    cleanup.delete_job_files()
    assert cleanup.blobs.folders("models/m") == [first.id]
    for _ in range(2):
        cleanup.delete_orphans()
    assert cleanup.blobs.folders("models/m") == []


def test_files_of_a_refused_dataset_go_and_of_a_ready_one_stay(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    for dataset_id, state in (("ds_ready", DatasetState.READY), ("ds_refused", DatasetState.REFUSED)):
        cleanup.datasets.add("photos", dataset_id=dataset_id, prefix=f"datasets/{dataset_id}/a", state=state)
        cleanup.blobs.put_bytes(f"datasets/{dataset_id}/a/dataset.json", b"x")
        failed(cleanup, "ingest", {"dataset": dataset_id})
    cleanup.delete_job_files()
    assert cleanup.blobs.list() == ["datasets/ds_ready/a/dataset.json"]


def test_what_the_first_release_left_goes_once_no_job_names_it(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    for key in ("classify/aaa/0", "classify/bbb/0", "uploads/ccc", "uploads/ddd"):
        cleanup.blobs.put_bytes(key, b"x")
    cleanup.ledger.create("classify", {"prefix": "classify/aaa/"})
    cleanup.ledger.create("ingest", {"upload": "uploads/ccc"})
    cleanup.delete_files_of_the_first_release()
    # Perhaps its job is only about to be made.
    assert len(cleanup.blobs.list()) == 4
    cleanup.delete_files_of_the_first_release()
    assert cleanup.blobs.list() == ["classify/aaa/0", "uploads/ccc"]


def test_bodies_that_the_first_release_left_go_when_they_are_old(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    cleanup.uploads.mkdir()
    for name in ("upload-old", "upload-new"):
        (cleanup.uploads / name).write_bytes(b"x")
    os.utime(cleanup.uploads / "upload-old", (1, 1))
    cleanup.sweep_uploads()
    assert [path.name for path in cleanup.uploads.iterdir()] == ["upload-new"]


def test_a_dataset_that_nobody_checks_is_refused(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    for dataset_id in ("ds_young", "ds_checked", "ds_abandoned"):
        cleanup.datasets.add("photos", dataset_id=dataset_id, prefix=f"datasets/{dataset_id}")
    cleanup.ledger.create("ingest", {"dataset": "ds_checked"})
    with database.session() as session:
        session.execute(
            update(DatasetRow).where(DatasetRow.id != "ds_young").values(created_at=from_now(-2 * 86400))
        )
    cleanup.refuse_abandoned_datasets()
    states = {name: cleanup.datasets.get(name).state for name in ("ds_young", "ds_checked", "ds_abandoned")}
    assert states == {
        "ds_young": DatasetState.CHECKING,
        "ds_checked": DatasetState.CHECKING,
        "ds_abandoned": DatasetState.REFUSED,
    }


def test_files_of_what_was_deleted_while_the_store_was_away_go_at_the_second_look(
    database: Database, tmp_path: Path
) -> None:
    cleanup = cleanup_of(database, tmp_path)
    kept_dataset, gone_dataset = new_id("ds"), new_id("ds")
    for dataset_id in (kept_dataset, gone_dataset):
        cleanup.datasets.add("x", dataset_id=dataset_id, prefix=f"datasets/{dataset_id}")
        cleanup.blobs.put_bytes(f"datasets/{dataset_id}/attempt/dataset.json", b"{}")
    jobs = [made(cleanup, "finetune", ended=True) for _ in range(2)]
    for job in jobs:
        cleanup.blobs.put_bytes(f"models/m/{job}/attempt/manifest.json", b"{}")
        cleanup.registry.add_version(
            "m", artifact=f"models/m/{job}/attempt", manifest={}, size_bytes=1, job_id=job
        )
    running = made(cleanup, "finetune", ended=False)
    cleanup.blobs.put_bytes(f"models/m/{running}/attempt/manifest.json", b"{}")
    cleanup.blobs.put_bytes("models/m/by-hand/manifest.json", b"{}")
    # As a gateway that is killed after the rows.
    cleanup.datasets.delete(gone_dataset)
    cleanup.registry.delete_version("m", 1)

    cleanup.delete_orphans()
    assert len(cleanup.blobs.folders("datasets")) == 2
    cleanup.delete_orphans()
    assert cleanup.blobs.folders("datasets") == [kept_dataset]
    assert cleanup.blobs.folders("models/m") == sorted(["by-hand", jobs[1], running])


def test_what_revisions_share_of_a_deleted_dataset_stays_until_none_does(
    database: Database, tmp_path: Path
) -> None:
    """As a gateway leaves it that was killed when the row was gone."""
    cleanup = cleanup_of(database, tmp_path)
    blobs, datasets = cleanup.blobs, cleanup.datasets
    first = datasets.add(
        "first", dataset_id="ds_1", prefix="datasets/ds_1/a", content_hash="1", state=DatasetState.READY
    )
    for name in ("aa", "bb"):
        blobs.put_bytes(f"datasets/ds_1/a/files/{name}/{name}", b"picture")
        blobs.put_bytes(f"datasets/ds_1/a/thumbnails/{name}.webp", b"small")
    blobs.put_bytes("datasets/ds_1/a/samples.jsonl", b"")
    datasets.add("second", dataset_id="ds_2", prefix="datasets/ds_2/b", parent=first)
    blobs.put_bytes("datasets/ds_2/b/samples.jsonl", b'{"sha256": "aa"}\n')
    second = datasets.record_check("ds_2", DatasetState.READY, content_hash="2", sources=(first.prefix,))
    datasets.delete("ds_1")
    for _ in range(2):
        cleanup.delete_orphans()
    assert len(blobs.list("datasets/ds_1")) == 5
    cleanup.shared_files.settle()
    shared = ["datasets/ds_1/a/files/aa/aa", "datasets/ds_1/a/thumbnails/aa.webp"]
    assert blobs.list("datasets/ds_1") == shared
    for _ in range(2):
        cleanup.shared_files.settle()
        cleanup.delete_orphans()
    assert blobs.list("datasets") == [*shared, "datasets/ds_2/b/samples.jsonl"]
    datasets.delete(second.id)
    cleanup.shared_files.settle()
    for _ in range(2):
        cleanup.delete_orphans()
    assert blobs.list() == []
    assert datasets.kept.list() == ()


def test_the_files_of_a_revision_that_was_cancelled_go(database: Database, tmp_path: Path) -> None:
    cleanup = cleanup_of(database, tmp_path)
    dataset = cleanup.datasets.add("x", prefix="datasets/x", job_id="job_1")
    asked = {"dataset": dataset.id, "parent": "ds_0", "changes": "jobs/job_1/changes"}
    job = cleanup.ledger.create("revise", asked, job_id="job_01J9Z3NDEKTSV4RRFFQ69G5FAV")
    cleanup.blobs.put_bytes(f"jobs/{job.id}/changes", b"{}")
    cleanup.blobs.put_bytes(f"datasets/{dataset.id}/a/samples.jsonl", b"")
    cleanup.ledger.request_cancel(job.id)
    cleanup.delete_job_files()
    assert cleanup.blobs.list() == []
