"""Whatever somebody's wish changes stands in the audit log, in the transaction of the change."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from support.past import let_pass

from storage.audit import Actor, AuditLog, act_as, acting
from storage.database import Database
from storage.datasets import DatasetRegistry, DatasetState
from storage.errors import InvalidCursor, StorageError
from storage.job import Idempotency
from storage.job_ledger import JobLedger
from storage.keys import KeyLimits, KeyRing, new_token
from storage.registry import ModelRegistry
from storage.tables import AuditRow

ANNA = Actor("abc123abc123", "Anna's laptop", request_id="req-1", client="192.0.2.7")


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database)


def publish(registry: ModelRegistry, model: str = "ants") -> int:
    manifest = {"labels": ["ant"]}
    return registry.add_version(model, artifact="models/ants/x", manifest=manifest, size_bytes=1).number


def told(log: AuditLog) -> list[tuple[str, str, dict[str, object]]]:
    """Oldest first."""
    return [(entry.action, entry.subject, entry.detail) for entry in reversed(log.list(100).items)]


def test_what_happens_to_a_model_is_on_record(database: Database, log: AuditLog) -> None:
    registry = ModelRegistry(database)
    publish(registry)
    publish(registry)
    registry.set_alias("ants", "production", 1)
    registry.set_alias("ants", "production", 2)
    registry.rollback("ants", "production", present=2, to=1)
    registry.delete_alias("ants", "production")
    registry.delete_version("ants", 1)
    registry.delete_model("ants")

    assert told(log) == [
        ("version.register", "ants", {"version": 1}),
        ("version.register", "ants", {"version": 2}),
        ("alias.set", "ants", {"alias": "production", "from": None, "to": 1}),
        ("alias.set", "ants", {"alias": "production", "from": 1, "to": 2}),
        ("alias.rollback", "ants", {"alias": "production", "from": 2, "to": 1}),
        ("alias.delete", "ants", {"alias": "production", "from": 1}),
        ("version.delete", "ants", {"version": 1, "aliases": []}),
        ("model.delete", "ants", {"versions": 1, "aliases": {}}),
    ]


def test_what_happens_to_datasets_jobs_and_keys_is_on_record(database: Database, log: AuditLog) -> None:
    datasets, ledger, ring = DatasetRegistry(database), JobLedger(database), KeyRing(database)
    dataset = datasets.add("Ants", prefix="datasets/x")
    datasets.record_check(dataset.id, DatasetState.READY, content_hash="1")
    job = ledger.create("finetune", {"model": "ants", "dataset": dataset.id})
    ledger.request_cancel(job.id)
    datasets.delete(dataset.id)
    key, _ = ring.create("laptop", ["train"], limits=KeyLimits(jobs_waiting=3))
    ring.set_limits(key.prefix, KeyLimits(requests_per_second=5))
    ring.revoke(key.prefix)
    admitted = ring.admit(new_token(), "first", ["admin"])

    assert told(log) == [
        ("dataset.create", dataset.id, {"name": "Ants"}),
        ("dataset.check", dataset.id, {"state": "ready"}),
        ("job.create", job.id, {"kind": "finetune", "model": "ants", "dataset": dataset.id}),
        ("job.cancel", job.id, {"on_cancel": "discard"}),
        ("dataset.delete", dataset.id, {"name": "Ants"}),
        ("key.create", key.prefix, {"name": "laptop", "scopes": ["train"], "limits": {"jobs_waiting": 3}}),
        ("key.limits", key.prefix, {"from": {"jobs_waiting": 3}, "to": {"requests_per_second": 5}}),
        ("key.revoke", key.prefix, {}),
        ("key.create", admitted.prefix, {"name": "first", "scopes": ["admin"]}),
    ]


def test_what_changes_nothing_is_not_on_record(database: Database, log: AuditLog) -> None:
    registry, ledger, ring = ModelRegistry(database), JobLedger(database), KeyRing(database)
    version = publish(registry)
    registry.set_alias("ants", "production", version)
    token = new_token()
    key = ring.admit(token, "first", ["admin"])
    ring.revoke(key.prefix)
    once = Idempotency("anna", "once", "same")
    job = ledger.create("publish", {}, idempotency=once)
    ledger.request_cancel(job.id)
    before = told(log)

    registry.set_alias("ants", "production", version)
    ring.admit(token, "first", ["admin"])
    ring.revoke(key.prefix)
    ring.set_limits(key.prefix, KeyLimits())
    assert ledger.create("publish", {}, idempotency=once) == ledger.get(job.id)
    ledger.request_cancel(job.id)
    with pytest.raises(StorageError):
        registry.set_alias("ants", "production", 99)

    assert told(log) == before


def test_a_deed_that_is_rolled_back_is_not_on_record(database: Database, log: AuditLog) -> None:
    registry = ModelRegistry(database)
    publish(registry)

    def change_and_fail() -> None:
        with database.session() as session:
            registry.set_alias("ants", "production", 1, within=session)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        change_and_fail()

    assert registry.get_model("ants").aliases == {}
    assert [action for action, _, _ in told(log)] == ["version.register"]


def test_without_its_entry_nothing_is_done(database: Database, log: AuditLog) -> None:
    registry, ledger, ring = ModelRegistry(database), JobLedger(database), KeyRing(database)
    datasets = DatasetRegistry(database)
    publish(registry)
    registry.set_alias("ants", "production", 1)
    key, token = ring.create("laptop", ["admin"])
    dataset = datasets.add("Ants", prefix="datasets/x")
    job = ledger.create("publish", {})
    deeds: list[Callable[[], object]] = [
        lambda: publish(registry),
        lambda: registry.set_alias("ants", "other", 1),
        lambda: registry.delete_alias("ants", "production"),
        lambda: registry.delete_version("ants", 1, force=True),
        lambda: registry.delete_model("ants", force=True),
        lambda: ring.create("phone", []),
        lambda: ring.revoke(key.prefix),
        lambda: ring.set_limits(key.prefix, KeyLimits(1)),
        lambda: datasets.add("Bees", prefix="datasets/y"),
        lambda: datasets.delete(dataset.id),
        lambda: ledger.create("publish", {}),
        lambda: ledger.request_cancel(job.id),
    ]
    with database.session() as session:
        session.execute(text("ALTER TABLE audit RENAME TO elsewhere"))
    try:
        for deed in deeds:
            with pytest.raises(StorageError, match="audit"):
                deed()
    finally:
        with database.session() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO audit"))

    model = registry.get_model("ants")
    assert (model.versions, model.aliases) == (1, {"production": 1})
    assert ring.verify(token) == key == ring.list()[0]
    assert len(ring.list()) == len(datasets.list(10).items) == len(ledger.list(10).items) == 1
    assert ledger.get(job.id) == job


def test_who_acts_travels_into_threads_and_ends_with_its_block(database: Database, log: AuditLog) -> None:
    registry = ModelRegistry(database)

    async def requests() -> None:
        """Two at once, each in a context of its own, as a server's requests are."""

        async def request(actor: Actor) -> None:
            act_as(actor)
            await asyncio.sleep(0)
            await asyncio.to_thread(publish, registry, actor.id)

        await asyncio.gather(request(ANNA), request(Actor("loopback")))

    asyncio.run(requests())
    with acting(Actor("worker", job_id="job_1")):
        publish(registry, "bees")
    publish(registry, "wasps")

    who = {e.subject: Actor(e.actor, e.actor_name, e.job_id, e.request_id, e.client) for e in log.list(9).items}
    assert who == {
        ANNA.id: ANNA,
        "loopback": Actor("loopback"),
        "bees": Actor("worker", job_id="job_1"),
        "wasps": Actor("system"),
    }


def test_entries_are_found_by_who_what_and_when(database: Database, log: AuditLog) -> None:
    registry, ring = ModelRegistry(database), KeyRing(database)
    with acting(ANNA):
        publish(registry)
        registry.set_alias("ants", "production", 1)
    let_pass(database, 2 * 86_400, AuditRow)
    with acting(Actor("cli", "root")):
        publish(registry, "bees")
        ring.create("laptop", [])

    def actions(**wanted: object) -> list[str]:
        return [entry.action for entry in log.list(10, **wanted).items]  # type: ignore[arg-type]

    assert actions() == ["key.create", "version.register", "alias.set", "version.register"]
    for anna in (ANNA.id, ANNA.name):
        assert actions(actor=anna) == ["alias.set", "version.register"]
    assert actions(action="alias") == actions(action="alias.set") == ["alias.set"]
    assert actions(action="ali") == actions(action="%") == actions(action="a\x00") == []
    assert actions(subject="bees", actor="root") == ["version.register"]
    assert actions(since=datetime.now(UTC) - timedelta(days=1)) == ["key.create", "version.register"]
    page = log.list(3)
    assert [e.action for e in log.list(3, page.next_cursor).items] == ["version.register"]
    with pytest.raises(InvalidCursor):
        log.list(3, "x")

    assert log.prune(timedelta(days=1)) == 2
    assert actions() == ["key.create", "version.register"]
