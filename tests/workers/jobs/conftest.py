"""A ledger of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database, migrate, open_database
from storage.job_ledger import JobLedger


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/fovea.db"
    migrate(url)
    opened = open_database(url)
    yield opened
    opened.close()


@pytest.fixture
def ledger(database: Database) -> JobLedger:
    return JobLedger(database)
