"""The database: one engine, transactions, migrations, and the one place where the driver's failures become ours.

Make one `Database` in each process, after it was forked. Knows no table.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from storage.database_url import EXPECTED, require_usable
from storage.errors import DatabaseUnavailable, SchemaMismatch, StorageError
from storage.revision import newest_revision

# How long a writer waits for another one on SQLite, which has one writer at a time.
_BUSY_TIMEOUT_MS = 30_000
_POOL_TIMEOUT_S = 10
# Of pages, for each connection. SQLite's own 2 MB times a pool of fifteen is memory that a process takes in hours,
# and the system keeps the file's pages for all of them.
_SQLITE_CACHE_KIB = 256
MIGRATION_LOCK = 0xF0FEA  # any number that nothing else in the database locks
_READ_ONLY = "fovea_read_only"
# An UPDATE reads nothing back for the rows loaded before it: sessions here are short and write by statement.
_UNSYNCHRONIZED = {"synchronize_session": False}
# A host that vanished without a word is noticed in seconds, not after the kernel's quarter of an hour.
_POSTGRESQL_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

# What several of the storage's classes write together, or not at all: their calls take it as `within`.
Transaction = Session


class Database:
    """One engine and its connections; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def session(self, *, read_only: bool = False, within: Transaction | None = None) -> Iterator[Transaction]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        With `within` the block is part of that transaction and is committed with it. On SQLite a transaction takes
        the write lock at its start unless it is `read_only`, because one that reads and then writes fails at once
        when another wrote in between. Raises DatabaseUnavailable.
        """
        if within is not None:
            yield within
            return
        bind = self._reading if read_only else self.engine
        with (
            translated(self.engine.url),
            Session(bind, expire_on_commit=False, autoflush=False, execution_options=_UNSYNCHRONIZED) as session,
            session.begin(),
        ):
            yield session

    def insert(self, table: Any) -> "postgresql.Insert | sqlite.Insert":
        """An INSERT that knows ON CONFLICT, which SQLAlchemy spells per dialect."""
        return postgresql.insert(table) if self.engine.dialect.name == "postgresql" else sqlite.insert(table)

    def ping(self) -> None:
        """Ask the database for a sign of life. Raises DatabaseUnavailable."""
        with self.session(read_only=True) as session:
            session.connection().exec_driver_sql("SELECT 1")

    def check_tables(self) -> None:
        """Raises DatabaseUnavailable, and SchemaMismatch where the tables are older than this release's.

        Those of a newer release will do: what this one needs is still there, or the release after would miss it.
        """
        with self.session(read_only=True) as session:
            found = session.connection().exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        newest = newest_revision()
        if found is None or found < newest:
            raise SchemaMismatch(
                f"The database {self.engine.url!r} is at revision {found}, older than {newest}; migrate it first."
            )

    def close(self) -> None:
        self.engine.dispose()


def open_database(url: str) -> Database:
    """A database by its URL, `sqlite:////folder/fovea.db` or `postgresql://user:password@host/name`.

    Nothing is connected yet. Raises StorageError for a URL that names neither.
    """
    return Database(_engine(_parse(url)))


def migrate(url: str, target: str = "head") -> None:
    """Bring the tables up to this release, or to an older `target` where they are older still.

    Does nothing when they are there. Safe in several processes at once.

    Raises SchemaMismatch when the tables are of a newer release, which this one would damage.
    """
    # Alembic costs 6 MB, which processes that only open the database need not pay.
    from storage.migration import upgrade

    engine = _engine(_parse(url))
    try:
        with translated(engine.url), engine.begin() as connection:  # on SQLite this takes the write lock
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            upgrade(connection, target)
    finally:
        engine.dispose()


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """The boundary: what the driver raises when the database cannot be used becomes ours.

    Raises SchemaMismatch where tables or columns are missing, else DatabaseUnavailable.
    """
    try:
        yield
    except DBAPIError as error:
        if _misses_tables(error):
            raise SchemaMismatch(
                f"The database {url!r} does not have the tables of this release; migrate it first. {error.orig}"
            ) from error
        # The bare DatabaseError is a SQLite file that is damaged or something else.
        if isinstance(error, (OperationalError, InterfaceError)) or type(error) is DatabaseError:
            raise DatabaseUnavailable(f"The database {url!r} cannot be used: {error.orig}") from error
        raise
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            f"All connections to the database {url!r} were busy for {_POOL_TIMEOUT_S} s."
        ) from error


def _misses_tables(error: DBAPIError) -> bool:
    undefined_table, undefined_column = "42P01", "42703"
    if getattr(error.orig, "sqlstate", None) in (undefined_table, undefined_column):
        return True
    said = str(error.orig)
    return said.startswith(("no such table", "no such column")) or "has no column named" in said


def _parse(url: str) -> URL:
    require_usable(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StorageError(f"The database URL cannot be read; {EXPECTED}") from error
    is_sqlite = parsed.get_backend_name() == "sqlite"
    return parsed.set(drivername="sqlite+pysqlite" if is_sqlite else "postgresql+psycopg")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        # pre_ping: connections of a server that restarted are replaced without the caller noticing.
        return create_engine(
            url, connect_args=_POSTGRESQL_CONNECT, pool_pre_ping=True, pool_timeout=_POOL_TIMEOUT_S
        )
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000}, pool_timeout=_POOL_TIMEOUT_S)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction by itself: _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA cache_size = -{_SQLITE_CACHE_KIB}")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Once for each file. SQLite does not wait for its turn at that, whatever the busy timeout says."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
