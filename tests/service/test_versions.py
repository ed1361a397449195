"""What the gateway remembers of references: for a moment, and never past its own change of an alias."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from service.versions import VersionCache
from storage.database import Database, migrate, open_database
from storage.errors import NotFound
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


def test_requests_that_want_one_at_once_share_a_reading_whoever_of_them_leaves(registry: SlowRegistry) -> None:
    async def scenario() -> list[int]:
        versions = VersionCache(registry, FOR_EVER)
        wanting = [asyncio.create_task(versions.resolve("m")) for _ in range(4)]
        await asyncio.to_thread(registry.has_read.wait, 20)
        wanting[0].cancel()
        await asyncio.wait(wanting[:1])
        registry.may_answer.set()
        return [version.number for version in await asyncio.gather(*wanting[1:])]

    assert asyncio.run(scenario()) == [1, 1, 1]
    assert registry.reads == 1


def test_one_that_is_asked_for_regularly_is_read_again_while_nobody_waits(registry: SlowRegistry) -> None:
    async def scenario() -> None:
        registry.may_answer.set()
        versions = VersionCache(registry, ttl_s=2.0)
        await versions.resolve("m")
        registry.may_answer.clear()
        registry.has_read.clear()
        registry.set_alias("m", "production", 2)
        # Most of the time has passed: a reading begins, and lasts until it may answer.
        await asyncio.sleep(1.7)
        assert (await asyncio.wait_for(versions.resolve("m"), 0.2)).number == 1
        await asyncio.to_thread(registry.has_read.wait, 20)
        registry.may_answer.set()
        while (await versions.resolve("m")).number == 1:
            await asyncio.sleep(0.01)
        assert registry.reads == 2

    asyncio.run(scenario())


def test_one_that_was_deleted_elsewhere_is_gone_when_it_is_no_longer_remembered(registry: SlowRegistry) -> None:
    async def scenario() -> None:
        registry.may_answer.set()
        versions = VersionCache(registry, ttl_s=0.3)
        await versions.resolve("m:2")
        registry.delete_version("m", 2)
        assert (await versions.resolve("m:2")).number == 2
        await asyncio.sleep(0.3)
        with pytest.raises(NotFound):
            await versions.resolve("m:2")

    asyncio.run(scenario())


def test_without_a_time_to_remember_every_request_reads(registry: SlowRegistry) -> None:
    async def scenario() -> None:
        registry.may_answer.set()
        versions = VersionCache(registry, ttl_s=0)
        await asyncio.gather(*(versions.resolve("m") for _ in range(3)))

    asyncio.run(scenario())
    assert registry.reads == 3
