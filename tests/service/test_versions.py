"""What the gateway remembers of references: for a moment, and never past its own change of an alias."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from service.versions import VersionCache
from storage.database import Database, migrate, open_database
from storage.registry import ModelRegistry, Version

FOR_EVER = 1e9


class SlowRegistry(ModelRegistry):
    """Gives out what it has read only when it may."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.has_read, self.may_answer = Event(), Event()
        self.reads = 0

    def resolve(self, reference: str) -> Version:
        version = super().resolve(reference)
        self.reads += 1
        self.has_read.set()
        assert self.may_answer.wait(20)
        return version


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[SlowRegistry]:
    url = f"sqlite:///{tmp_path}/fovea.db"
    migrate(url)
    database = open_database(url)
    registry = SlowRegistry(database)
    for number in (1, 2):
        manifest = {"architecture": "lenet5", "labels": ["a", "b"]}
        registry.add_version("m", artifact=f"models/m/{number}/", manifest=manifest, size_bytes=1)
    registry.set_alias("m", "production", 1)
    yield registry
    database.close()


def test_a_reference_is_read_once_while_it_is_remembered(registry: SlowRegistry) -> None:
    async def scenario() -> list[int]:
        registry.may_answer.set()
        versions = VersionCache(registry, FOR_EVER)
        return [(await versions.resolve("m")).number for _ in range(3)]

    assert asyncio.run(scenario()) == [1, 1, 1]
    assert registry.reads == 1


def test_what_was_read_before_an_alias_moved_is_not_remembered_after_it(registry: SlowRegistry) -> None:
    async def scenario() -> tuple[int, int]:
        versions = VersionCache(registry, FOR_EVER)
        reading = asyncio.create_task(versions.resolve("m"))
        await asyncio.to_thread(registry.has_read.wait, 20)
        registry.set_alias("m", "production", 2)
        versions.forget()
        registry.may_answer.set()
        return (await reading).number, (await versions.resolve("m")).number

    assert asyncio.run(scenario()) == (1, 2)
