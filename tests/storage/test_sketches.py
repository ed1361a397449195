"""Sketches by the hour: added up by whoever adds, gone with their version or after a while."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.database import Database, open_database
from storage.errors import NotFound
from storage.registry import ModelRegistry
from storage.sketches import SketchBook

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)


@pytest.fixture
def registry(database: Database) -> ModelRegistry:
    """With two versions of `ants`."""
    found = ModelRegistry(database)
    for number in (1, 2):
        found.add_version("ants", artifact=f"models/ants/{number}", manifest={}, size_bytes=1)
    return found


@pytest.fixture
def book(database: Database, registry: ModelRegistry) -> SketchBook:
    return SketchBook(database)


def plus(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"images": first["images"] + second["images"]}


def add(book: SketchBook, images: int, *, version: int = 1, hour: datetime = NOW) -> None:
    book.add("ants", version, hour, {"images": images}, plus)


def images(book: SketchBook, since: datetime | None = None) -> list[int]:
    return [each.sketch["images"] for each in book.read("ants", 1, since)]


def test_an_hours_sketches_are_added_up(book: SketchBook) -> None:
    add(book, 5)
    add(book, 7)
    add(book, 1, hour=NOW - HOUR)
    add(book, 9, version=2)
    assert images(book) == [1, 12]
    assert images(book, since=NOW) == [12]
    assert [each.hour for each in book.read("ants", 1)] == [NOW - HOUR, NOW]


def test_gateways_that_add_at_once_lose_nothing(book: SketchBook, database: Database) -> None:
    others = [open_database(database.engine.url.render_as_string(hide_password=False)) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            adding = [
                pool.submit(add, SketchBook(other), 1, hour=NOW + n % 2 * HOUR)
                for n in range(20)
                for other in others
            ]
            for each in adding:
                each.result()
    finally:
        for other in others:
            other.close()
    assert images(book) == [40, 40]


def test_they_go_with_their_version(book: SketchBook, registry: ModelRegistry) -> None:
    add(book, 5)
    add(book, 5, version=2)
    registry.delete_version("ants", 1)
    assert images(book) == []
    assert book.read("ants", 2)
    with pytest.raises(NotFound):
        add(book, 5)
    registry.delete_model("ants")
    assert book.read("ants", 2) == ()


def test_after_a_while_they_are_pruned(book: SketchBook) -> None:
    for days in (0, 29, 31, 40):
        add(book, days, hour=NOW - timedelta(days=days))
    assert book.prune(timedelta(days=30)) == 2
    assert images(book) == [29, 0]


def test_served_is_what_the_bare_name_means(book: SketchBook, registry: ModelRegistry) -> None:
    add(book, 5)
    add(book, 5, version=2)
    add(book, 5, version=2, hour=NOW - HOUR)
    assert book.served(NOW, 10) == (("ants", 2),)
    registry.set_alias("ants", "production", 1)
    assert book.served(NOW, 10) == (("ants", 1),)
    assert book.served(NOW + HOUR, 10) == ()
    registry.add_version("bees", artifact="models/bees/1", manifest={}, size_bytes=1)
    book.add("bees", 1, NOW, {"images": 1}, plus)
    assert book.served(NOW, 10) == (("ants", 1), ("bees", 1))
    assert book.served(NOW, 1) == (("ants", 1),)
