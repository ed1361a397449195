"""An inference worker's world for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.world import World

from storage.database import migrate, open_database


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path}/fovea.db"
    migrate(url)
    database = open_database(url)
    yield World(tmp_path, database)
    database.close()
