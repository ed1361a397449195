"""A backup of every pair of places, restored into every other: SQLite and PostgreSQL, a folder and S3."""

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import select, text
from support.postgres import PostgresServer
from support.s3 import S3Server

from storage.audit import Actor, AuditEntry, AuditLog, acting
from storage.backup import write_backup
from storage.blobs import BlobStore
from storage.database import Database, migrate, open_database
from storage.datasets import DatasetRegistry, DatasetState
from storage.errors import BackupUnusable, NotEmpty, SchemaMismatch, StorageError
from storage.job_ledger import JobLedger
from storage.keys import KeyRing
from storage.registry import ModelRegistry
from storage.restore import read_record, restore_backup
from storage.tables import Base
from storage.webhooks import WebhookRegistry

PLACES = [("sqlite", "file"), ("postgresql", "s3")]
SINCE = ("alias_history", "audit", "dataset_sources", "kept_files", "model_tags", "webhooks", "webhook_deliveries")
COLUMNS_SINCE = (
    *("traceparent", "duplicate_of", "owner", "limits", "last_used_at", "description", "waits_for"),
    *("parent", "root", "revision"),
)
_number = count(1)


@dataclass
class Place:
    """A Fovea without processes."""

    url: str
    database: Database
    blobs: BlobStore

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        with self.database.session(read_only=True) as session:
            return {
                table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
                for table in Base.metadata.sorted_tables
            }

    def contents(self) -> dict[str, bytes]:
        return {key: self.blobs.get_bytes(key) for key in self.blobs.list()}


MakePlace = Callable[[str, str], Place]


@pytest.fixture
def make_place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakePlace]:
    opened: list[Database] = []
    made: list[str] = []

    def make(database: str, store: str) -> Place:
        name = f"backup_{next(_number)}"
        url = f"sqlite:///{tmp_path}/{name}.db"
        if database == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            server.run(f"CREATE DATABASE {name}")
            made.append(name)
            url = server.url(name)
        blobs_url = (tmp_path / name).as_uri()
        if store == "s3":
            s3: S3Server = request.getfixturevalue("s3_server")
            for variable, value in s3.environment.items():
                monkeypatch.setenv(variable, value)
            blobs_url = s3.make_bucket()
        migrate(url)
        opened.append(open_database(url))
        return Place(url, opened[-1], BlobStore(blobs_url))

    yield make
    for one in opened:
        one.close()
    for name in made:
        request.getfixturevalue("postgres").run(f"DROP DATABASE {name} WITH (FORCE)")


def furnish(place: Place) -> str:
    """One of everything, with text that is easily spoilt; the key's token."""
    registry, ledger = ModelRegistry(place.database), JobLedger(place.database)
    datasets, ring = DatasetRegistry(place.database), KeyRing(place.database)
    for number in (1, 2):
        place.blobs.put_bytes(f"models/ants/{number}/model.onnx", os.urandom(100_000))
        place.blobs.put_bytes(f"models/ants/{number}/manifest.json", b"{}")
        manifest = {"labels": ["ant", "é\u0000\ud800", None], "loss": 0.1}
        registry.add_version("ants", artifact=f"models/ants/{number}/", manifest=manifest, size_bytes=2**40)
    registry.set_alias("ants", "production", 2)
    registry.set_alias("ants", "production", 1)
    dataset = datasets.add(
        "Ameisen \u2013 ants", prefix="datasets/ds_1", dataset_id="ds_1", state=DatasetState.READY
    )
    place.blobs.put_bytes("datasets/ds_1/files/ab/cd", b"picture")
    place.blobs.put_bytes("datasets/ds_1/dataset.json", b"{}")
    job = ledger.create("finetune", {"model": "ants", "dataset": dataset.id})
    attempt = ledger.take(job.id, "worker", 30)
    assert attempt is not None
    ledger.report_progress(attempt, {"phase": "training", "loss": float("nan")})
    WebhookRegistry(place.database).create("https://hooks.example.org/", description="B\u00fcro")
    ledger.request_cancel(ledger.create("publish", {"model": "ants"}).id)
    place.blobs.put_bytes(f"jobs/{job.id}/checkpoints/1/record.json", b"{}")
    return ring.create("laptop", ["admin"])[1]


def but_audit(place: Place) -> dict[str, list[tuple[object, ...]]]:
    return {table: rows for table, rows in place.rows().items() if table != "audit"}


def entries(place: Place) -> list[AuditEntry]:
    return [*AuditLog(place.database).list(1000).items]


def nothing(_count: int, _total: int) -> None:
    pass


@pytest.mark.parametrize("source", PLACES, ids="-".join)
@pytest.mark.parametrize("target", PLACES, ids="-".join)
def test_everything_comes_back_wherever_it_is_restored(
    make_place: MakePlace, tmp_path: Path, source: tuple[str, str], target: tuple[str, str]
) -> None:
    old, new = make_place(*source), make_place(*target)
    token = furnish(old)
    told: list[tuple[int, int]] = []
    written = write_backup(old.database, old.blobs, tmp_path / "backup.tar", lambda *told_: told.append(told_))

    with acting(Actor("cli")):
        restored = restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing)

    assert restored == written
    assert sum(count for count, _ in told) == told[-1][1] == sum(old.blobs.sizes().values())
    assert but_audit(new) == but_audit(old)
    (restored_by, *before) = entries(new)
    assert (restored_by.actor, restored_by.action) == ("cli", "backup.restore")
    assert before == entries(old)
    assert new.contents() == old.contents()
    assert KeyRing(new.database).verify(token) is not None
    assert ModelRegistry(new.database).get_alias("ants", "production").previous == 2
    assert ModelRegistry(new.database).resolve("ants").number == 1
    # Life goes on: the next version has the next number, and a job that ran is found again.
    new.blobs.put_bytes("models/ants/3/manifest.json", b"{}")
    version = ModelRegistry(new.database).add_version(
        "ants", artifact="models/ants/3", manifest={"labels": ["a"]}, size_bytes=1
    )
    assert version.number == 3


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_a_fovea_that_holds_something_is_replaced_only_by_force(
    make_place: MakePlace, tmp_path: Path, place: tuple[str, str]
) -> None:
    old, new = make_place("sqlite", "file"), make_place(*place)
    furnish(old)
    write_backup(old.database, old.blobs, tmp_path / "backup.tar", nothing)
    token = furnish(new)
    new.blobs.put_bytes("models/bees/1/manifest.json", b"{}")
    before = new.rows(), new.contents()

    with pytest.raises(NotEmpty, match="--force"):
        restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing)
    assert (new.rows(), new.contents()) == before

    told = entries(new)
    restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing, force=True)
    assert but_audit(new) == but_audit(old)
    assert new.contents() == old.contents()
    assert KeyRing(new.database).verify(token) is None
    # What was done before is not forgotten with what it was done to, and a second restore tells nothing twice.
    assert {entry.id for entry in (*told, *entries(old))} < {entry.id for entry in entries(new)}
    restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing, force=True)
    assert len(entries(new)) == len(told) + len(entries(old)) + 2


def test_the_operators_images_are_in_no_backup_and_stay_where_they_are(
    make_place: MakePlace, tmp_path: Path
) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    furnish(old)
    old.blobs.put_bytes("images/2026/a.png", b"the old operator's")
    new.blobs.put_bytes("images/2026/b.png", b"the new operator's")
    write_backup(old.database, old.blobs, tmp_path / "backup.tar", nothing)
    # They are nothing that a restore would have to replace.
    restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing)
    restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing, force=True)
    assert new.blobs.list("images") == ["images/2026/b.png"]
    old.blobs.delete_prefix("images")
    new.blobs.delete_prefix("images")
    assert new.contents() == old.contents()


def test_keys_that_were_made_before_are_kept(make_place: MakePlace, tmp_path: Path) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    tokens = [furnish(old), KeyRing(new.database).create("first", ["admin"])[1]]
    write_backup(old.database, old.blobs, tmp_path / "backup.tar", nothing)
    restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing)

    assert all(KeyRing(new.database).verify(token) for token in tokens)


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_what_is_written_while_the_backup_runs_does_no_harm(
    make_place: MakePlace, tmp_path: Path, place: tuple[str, str]
) -> None:
    """Versions appear all the time; every row of the backup has its files in it."""
    old, new = make_place(*place), make_place("sqlite", "file")
    furnish(old)
    done = threading.Event()

    def publish() -> None:
        registry = ModelRegistry(old.database)
        for number in range(10_000):
            if done.is_set():
                return
            prefix = f"models/live/{number}"
            old.blobs.put_bytes(f"{prefix}/manifest.json", b"{}")
            registry.add_version("live", artifact=prefix, manifest={"labels": ["a"]}, size_bytes=1)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for number in range(3):
            write_backup(old.database, old.blobs, tmp_path / f"{number}.tar", nothing)
    finally:
        done.set()
        publisher.join()
    restore_backup(new.url, new.blobs, tmp_path / "2.tar", nothing)
    live = [row for row in new.rows()["versions"] if row[0] == "live"]
    assert live
    for _, number, *_ in live:
        assert new.blobs.exists(
            ModelRegistry(new.database).get_version("live", number).artifact + "/manifest.json"
        )


def test_a_version_that_is_deleted_meanwhile_has_the_backup_begin_anew(
    make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    furnish(old)
    listing = old.blobs.sizes

    def delete_then_list(prefix: str = "") -> dict[str, int]:
        found = listing(prefix)
        if old.blobs.exists("models/ants/2/manifest.json"):
            ModelRegistry(old.database).delete_version("ants", 2)
            old.blobs.delete_prefix("models/ants/2")
        return found

    monkeypatch.setattr(old.blobs, "sizes", delete_then_list)
    write_backup(old.database, old.blobs, tmp_path / "backup.tar", nothing)
    restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing)
    assert [row[:2] for row in new.rows()["versions"]] == [("ants", 1)]


def test_a_version_whose_files_are_lost_is_told_and_leaves_no_file(make_place: MakePlace, tmp_path: Path) -> None:
    old = make_place("sqlite", "file")
    furnish(old)
    old.blobs.delete_prefix("models/ants/1")
    with pytest.raises(StorageError, match="models/ants/1"):
        write_backup(old.database, old.blobs, tmp_path / "backup.tar", nothing)
    assert [path.name for path in tmp_path.glob("*backup.tar*")] == []


@pytest.mark.parametrize("where", [0.2, 0.5, 0.98])
def test_a_damaged_backup_is_refused_before_a_row_is_written(
    make_place: MakePlace, tmp_path: Path, where: float
) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    furnish(old)
    file = tmp_path / "backup.tar"
    write_backup(old.database, old.blobs, file, nothing)
    whole = file.read_bytes()
    place = int(len(whole.rstrip(b"\0")) * where)
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])

    with pytest.raises(BackupUnusable):
        restore_backup(new.url, new.blobs, file, nothing)
    assert not any(new.rows().values())


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\0" * 10_240])
def test_what_is_no_backup_is_refused(make_place: MakePlace, tmp_path: Path, content: bytes) -> None:
    new = make_place("sqlite", "file")
    (tmp_path / "file").write_bytes(content)
    for file in (tmp_path / "file", tmp_path / "nowhere", tmp_path):
        with pytest.raises(BackupUnusable):
            restore_backup(new.url, new.blobs, file, nothing)


def test_a_backup_cut_off_is_refused(make_place: MakePlace, tmp_path: Path) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    furnish(old)
    file = tmp_path / "backup.tar"
    write_backup(old.database, old.blobs, file, nothing)
    file.write_bytes(file.read_bytes()[:120_000])
    with pytest.raises(BackupUnusable):
        restore_backup(new.url, new.blobs, file, nothing)
    assert not any(new.rows().values())


def test_no_member_leads_out_of_the_blobs(make_place: MakePlace, tmp_path: Path) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    furnish(old)
    write_backup(old.database, old.blobs, tmp_path / "good.tar", nothing)
    with tarfile.open(tmp_path / "good.tar") as good, tarfile.open(tmp_path / "bad.tar", "w") as bad:
        for member in good:
            content = good.extractfile(member)
            member.name = member.name.replace("blobs/models/ants/1/model.onnx", "blobs/../../escaped")
            bad.addfile(member, content)
    with pytest.raises(StorageError):
        restore_backup(new.url, new.blobs, tmp_path / "bad.tar", nothing)
    assert not list(tmp_path.rglob("escaped"))


def as_of_the_first_release(file: Path, old: Path) -> None:
    """The backup as release 0001 wrote it: without the columns and the tables that were added since."""
    with tarfile.open(file) as source, tarfile.open(old, "w") as target:
        record = read_record(file).model_dump()
        for member in source:
            content = source.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name == "rows.jsonl":
                lines = [json.loads(line) for line in data.splitlines()]
                lines = [line for line in lines if line["table"] not in SINCE]
                for line in lines:
                    for column in COLUMNS_SINCE:
                        line["row"].pop(column, None)
                data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
                record["members"][member.name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            if member.name == "backup.json":
                rows = {table: n for table, n in record["rows"].items() if table not in SINCE}
                data = json.dumps({**record, "revision": "0001", "rows": rows}).encode()
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("migrated", [True, False])
def test_a_backup_of_an_older_release_is_brought_up_to_this_one(
    make_place: MakePlace, tmp_path: Path, migrated: bool, force: bool
) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    furnish(old)
    write_backup(old.database, old.blobs, tmp_path / "now.tar", nothing)
    as_of_the_first_release(tmp_path / "now.tar", tmp_path / "then.tar")
    url = new.url if migrated else f"sqlite:///{tmp_path}/fresh.db"
    restore_backup(url, new.blobs, tmp_path / "then.tar", nothing, force=force)
    database = open_database(url)
    there, then = replace(new, database=database).rows(), old.rows()
    # The older release knew no history; each alias begins one where it is.
    history = [move.version for move in ModelRegistry(database).get_alias("ants", "production").history]
    assert history == [1]
    assert [entry[5] for entry in there["audit"]] == ["backup.restore"]
    for table in SINCE:
        del there[table], then[table]
    assert there == then
    database.close()


def test_a_database_that_was_not_migrated_is_not_backed_up(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/old.db", "0001")
    database = open_database(f"sqlite:///{tmp_path}/old.db")
    with pytest.raises(SchemaMismatch, match="migrate it first"):
        write_backup(database, BlobStore(str(tmp_path / "old")), tmp_path / "old.tar", nothing)
    database.close()


def test_a_backup_of_a_newer_release_is_refused(
    make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_place("sqlite", "file"), make_place("sqlite", "file")
    furnish(old)
    with old.database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    write_backup(old.database, old.blobs, tmp_path / "backup.tar", nothing)
    with pytest.raises(SchemaMismatch, match="'9999'"):
        restore_backup(new.url, new.blobs, tmp_path / "backup.tar", nothing)
    assert not any(new.rows().values())
