"""Sketches on their way from replies to the database: added up, tried again, and never in anybody's way."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from models.drift.sketch import Sketch
from service.batcher import VersionKey
from service.sketches import ServedSketches
from storage.database import Database, migrate, open_database
from storage.errors import DatabaseUnavailable
from storage.registry import ModelRegistry
from storage.sketches import SketchBook

ONE = Sketch(2, ((1, 1),), (0.5,))
ANTS = VersionKey("ants", 1, "models/ants/1")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    migrate(f"sqlite:///{tmp_path}/fovea.db")
    opened = open_database(f"sqlite:///{tmp_path}/fovea.db")
    ModelRegistry(opened).add_version("ants", artifact="models/ants/1", manifest={}, size_bytes=1)
    yield opened
    opened.close()


class Absent(SketchBook):
    """Away for the first `times` calls."""

    def __init__(self, database: Database, times: int) -> None:
        super().__init__(database)
        self.times = times

    def add(self, *given, **named):  # type: ignore[no-untyped-def]
        if self.times:
            self.times -= 1
            raise DatabaseUnavailable("away")
        super().add(*given, **named)


def images(database: Database) -> int:
    return sum(each.sketch["images"] for each in SketchBook(database).read("ants", 1))


def test_what_came_is_written_once(database: Database) -> None:
    sketches = ServedSketches(SketchBook(database))
    sketches.record(ANTS, ONE)
    sketches.record(ANTS, ONE)
    assert images(database) == 0
    asyncio.run(sketches.write())
    asyncio.run(sketches.write())
    assert images(database) == 4


def test_what_a_database_that_is_away_did_not_take_is_written_later(database: Database) -> None:
    sketches = ServedSketches(Absent(database, 2))
    for _ in range(3):
        sketches.record(ANTS, ONE)
        asyncio.run(sketches.write())
    assert images(database) == 6


def test_what_cannot_be_added_is_left_out_and_the_rest_is_written(database: Database) -> None:
    sketches = ServedSketches(SketchBook(database))
    with capture_logs() as said:
        sketches.record(VersionKey("bees", 1, "models/bees/1"), ONE)
        sketches.record(ANTS, Sketch(3, ((1, 1),), (0.5,)))
        sketches.record(ANTS, ONE)
        sketches.record(ANTS, Sketch(1, ((1, 0, 0),), (0.5,)))
        asyncio.run(sketches.write())
    assert images(database) == 2
    assert {line["event"] for line in said} == {
        "sketches.version_gone", "sketches.malformed", "sketches.other_bins",
    }  # fmt: skip


def test_a_row_that_is_no_sketch_harms_nobody(database: Database) -> None:
    sketches = ServedSketches(SketchBook(database))
    sketches.record(ANTS, ONE)
    asyncio.run(sketches.write())
    with database.session() as session:
        session.execute(text("UPDATE sketches SET sketch = '{\"counts\": 5}'"))
    sketches.record(ANTS, ONE)
    asyncio.run(sketches.write())
    assert [each.sketch for each in SketchBook(database).read("ants", 1)] == [{"counts": 5}]
