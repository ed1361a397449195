import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, DateTime, MetaData, String, Text, select, text

from storage.clock import from_now, now
from storage.database import MIGRATION_LOCK, Database, migrate, open_database
from storage.database_url import require_usable
from storage.errors import DatabaseUnavailable, SchemaMismatch, StorageError
from storage.job_ledger import JobLedger
from storage.revision import newest_revision
from storage.tables import Base


def test_the_migrations_make_the_tables_of_the_code(empty_url: str) -> None:
    migrate(empty_url)
    database = open_database(empty_url)
    with database.session() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    database.close()

    assert differences == []


def test_migrating_again_keeps_what_is_there(database: Database, url: str) -> None:
    job = JobLedger(database).create("finetune", {})

    migrate(url)

    assert JobLedger(database).get(job.id) == job


def test_several_processes_migrate_at_once(empty_url: str) -> None:
    program = (
        "import sys, storage.migration; from storage.database import migrate;"
        "print('ready', flush=True); input(); migrate(sys.argv[1])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=120)[1] for process in processes]

    assert errors == [""] * 3
    database = open_database(empty_url)
    JobLedger(database).create("finetune", {})
    database.close()


def test_whoever_migrates_waits_for_the_one_who_does(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        migrating = pool.submit(migrate, postgres_url)
        with pytest.raises(TimeoutError):
            migrating.result(timeout=0.5)
        other.commit()
        migrating.result(timeout=30)


def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(empty_url: str) -> None:
    migrate(empty_url)
    database = open_database(empty_url)
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaMismatch, match=r"'9999'.*newer"):
        migrate(empty_url)

    with database.session() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    database.close()


def test_the_release_before_goes_on_writing_while_this_one_has_migrated(empty_url: str) -> None:
    """Its statements name the columns that it knows; what this one added must not be asked of it."""
    head = "0004"
    migrate(empty_url, "0001")
    database = open_database(empty_url)
    with database.session() as session:
        metadata = MetaData()
        metadata.reflect(session.connection())
    old_tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    migrate(empty_url)
    with database.session() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) >= head
        for table in old_tables:
            session.execute(table.insert(), {column.name: _any_value(column) for column in table.columns})
    with database.session() as session:
        for table in old_tables:
            assert session.execute(select(Base.metadata.tables[table.name])).one()
    with database.session() as session:
        for table in old_tables:
            assert session.execute(select(*table.columns)).one()
            session.execute(table.update().values({column.name: _any_value(column) for column in table.columns}))
    database.close()


def _any_value(column: Column[Any]) -> Any:
    """Something that fits the column and what it refers to."""
    if isinstance(column.type, DateTime):
        return datetime(2026, 1, 1, tzinfo=UTC)
    if isinstance(column.type, Text):
        return "{}"
    return "x" if isinstance(column.type, String) else column.type.python_type(1)


def test_a_failed_block_leaves_nothing(database: Database) -> None:
    ledger = JobLedger(database)

    def stop_midway() -> None:
        with database.session() as session:
            session.execute(text("INSERT INTO version_counters VALUES ('a', 1)"))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        stop_midway()

    with database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM version_counters")) == 0
    ledger.create("finetune", {})


def test_the_clock_is_the_databases(database: Database) -> None:
    with database.session() as session:
        present, past, future = session.execute(select(now(), from_now(-90), from_now(0.25))).one()

    assert present.utcoffset() is not None
    assert abs((present - past).total_seconds() - 90) < 0.01
    assert abs((future - present).total_seconds() - 0.25) < 0.01


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    ledger = JobLedger(database)
    job = ledger.create("finetune", {})
    with database.session() as writing, ThreadPoolExecutor(1) as pool:
        writing.execute(text("UPDATE jobs SET kind = 'other'"))
        assert pool.submit(ledger.get, job.id).result(timeout=5).kind == "finetune"

    assert ledger.get(job.id).kind == "other"


def test_a_database_that_is_there_answers_a_ping(database: Database) -> None:
    database.ping()


@contextmanager
def at_revision(database: Database, revision: str) -> Iterator[None]:
    """As if a release of that revision had migrated the database."""

    def set_revision(revision: str) -> None:
        with database.session() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    set_revision(revision)
    try:
        yield
    finally:
        set_revision(newest_revision())


def test_the_tables_of_this_release_are_told_from_older_ones(database: Database) -> None:
    database.check_tables()
    with (
        at_revision(database, "0001"),
        pytest.raises(SchemaMismatch, match=f"0001, older than {newest_revision()}; migrate"),
    ):
        database.check_tables()


def test_the_tables_of_a_newer_release_will_do(database: Database) -> None:
    with at_revision(database, "9999"):
        database.check_tables()


def test_tables_that_were_never_made_are_missing(empty_url: str) -> None:
    database = open_database(empty_url)
    with pytest.raises(SchemaMismatch):
        database.check_tables()
    database.close()


def test_the_newest_revision_is_the_one_that_is_migrated_to(empty_url: str) -> None:
    migrate(empty_url)
    database = open_database(empty_url)
    with database.session() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == newest_revision()
    database.close()


@pytest.mark.parametrize(
    "url",
    [
        "", "fovea.db", "mysql://u:secret@h/x", "sqlite://", "sqlite:///:memory:", "http://x",
        "postgresql://u:secret@h:port/x",
    ],
)  # fmt: skip
def test_a_url_that_names_no_usable_database_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="expected sqlite:") as caught:
        open_database(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(StorageError) as checked:
        require_usable(url)
    assert str(checked.value) == str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////folder/fovea.db", "sqlite:///fovea.db", "postgres://h/x",
        "postgresql+psycopg://h:5432/x?sslmode=require", "postgresql://u:a:b/c?d#e@h/x",
        "postgresql://[::1]:5432/x", "postgresql:///x?host=/run/postgresql",
    ],
)  # fmt: skip
def test_a_url_that_names_a_usable_database_passes(url: str) -> None:
    require_usable(url)


# SQLite


@pytest.fixture
def sqlite_file(sqlite_template: Path, tmp_path: Path) -> Path:
    file = tmp_path / "a folder" / "fovea.db"
    file.parent.mkdir()
    file.write_bytes(sqlite_template.read_bytes())
    return file


def test_sqlite_is_set_for_many_processes(sqlite_file: Path) -> None:
    database = open_database(f"sqlite:///{sqlite_file}")
    with database.session() as session:
        settings = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout", "cache_size")
        }
    database.close()

    assert settings == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 1,
        "busy_timeout": 30_000,
        "cache_size": -256,
    }


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/folder/fovea.db"
    migrate(url)
    database = open_database(url)
    database.ping()
    database.close()


def test_a_file_that_is_no_database_is_said_to_be_unavailable(tmp_path: Path) -> None:
    (tmp_path / "fovea.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    database = open_database(f"sqlite:///{tmp_path}/fovea.db")

    with pytest.raises(DatabaseUnavailable, match="not a database"):
        database.ping()
    database.close()


def test_a_database_that_was_never_migrated_is_said_to_lack_its_tables(empty_url: str) -> None:
    database = open_database(empty_url)
    with pytest.raises(SchemaMismatch, match="fovea"):
        JobLedger(database).get("job_1")
    database.close()


def test_a_writer_waits_for_another_process(sqlite_file: Path) -> None:
    database = open_database(f"sqlite:///{sqlite_file}")
    other = sqlite3.connect(sqlite_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(JobLedger(database).create, "finetune", {})
        with pytest.raises(TimeoutError):
            creating.result(timeout=0.5)
        other.execute("COMMIT")
        assert creating.result(timeout=10).kind == "finetune"
    other.close()
    database.close()


# PostgreSQL


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    opened = open_database(postgres_url)
    yield opened
    opened.close()


def test_a_restarted_server_is_met_again(postgres_database: Database, postgres_run: Callable[[str], None]) -> None:
    postgres_database.ping()
    postgres_run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fovea'")

    postgres_database.ping()


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told(tmp_path: Path) -> None:
    database = open_database(f"postgresql://fovea:secret@/fovea?host={tmp_path}")

    with pytest.raises(DatabaseUnavailable) as caught:
        JobLedger(database).create("finetune", {})
    assert "secret" not in str(caught.value)
    with pytest.raises(DatabaseUnavailable):
        migrate(f"postgresql://fovea:secret@/fovea?host={tmp_path}")
    database.close()


def test_a_connection_lost_in_the_middle_is_unavailable(
    postgres_database: Database, postgres_run: Callable[[str], None]
) -> None:
    def lose_the_connection() -> None:
        with postgres_database.session() as session:
            session.execute(text("SELECT 1"))
            postgres_run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fovea'")
            session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        lose_the_connection()
    postgres_database.ping()
