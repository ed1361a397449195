"""A fresh, migrated database for each test, on SQLite and on a real PostgreSQL that is started for the session."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from support.postgres import PostgresServer

from storage.database import Database, migrate, open_database
from storage.tables import Base

_number = count(1)


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
