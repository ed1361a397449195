"""A fresh, migrated database for each test, on SQLite and on a real PostgreSQL that is started for the session."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest

from storage.database import Database, migrate, open_database
from storage.tables import Base

_ADMIN = "postgres"
_number = count(1)


@dataclass(frozen=True)
class PostgresServer:
    """A private server that listens on a unix socket in its own folder, and on no port."""

    folder: Path

    def url(self, name: str) -> str:
        return f"postgresql://{_ADMIN}@/{name}?host={self.folder}"

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]


def _programs() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    found = shutil.which("initdb")
    candidates = [*([Path(found).resolve().parent] if found else []), *folders]
    return next((f for f in candidates if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not on this machine (Debian: `apt install postgresql`)")
    # Not pytest's folder: a unix socket's path may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="fovea-pg-"))
    data, log = folder / "data", folder / "log"
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"

    def call(*command: str) -> None:
        done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            details = log.read_text() if log.exists() else ""
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}{details}")

    try:
        call(f"{programs}/initdb", "-D", str(data), "-U", _ADMIN, "-A", "trust", "-E", "UTF8", "--no-sync")
        call(f"{programs}/pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
        try:
            yield PostgresServer(folder)
        finally:
            call(f"{programs}/pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_run(postgres: PostgresServer) -> Callable[[str], None]:
    """Runs a statement as the server's owner."""
    return postgres.run


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a migrated database that the tests share, one after the other."""
    postgres.run("CREATE DATABASE fovea")
    migrate(postgres.url("fovea"))
    return postgres.url("fovea")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "fovea.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/fovea.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"fovea_{next(_number)}"
    server.run(f"CREATE DATABASE {name}")
    yield server.url(name)
    server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated database without any row."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "fovea.db")
        yield f"sqlite:///{tmp_path}/fovea.db"
        return
    shared: str = request.getfixturevalue("postgres_url")
    with psycopg.connect(shared) as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(f"DELETE FROM {table.name}")  # type: ignore[call-overload]
    yield shared


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url)
    yield opened
    opened.close()
