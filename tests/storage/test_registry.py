from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from storage.audit import AuditLog
from storage.database import Database
from storage.errors import Conflict, InUse, InvalidCursor, InvalidName, InvalidReference, LeaseLost, NotFound
from storage.job_ledger import Attempt, JobLedger
from storage.registry import ModelRegistry, Version

MANIFEST = {"architecture": "lenet5", "labels": ["ant", "bee"], "metrics": {"accuracy": 0.93}, "seed": 0}


@pytest.fixture
def registry(database: Database) -> ModelRegistry:
    return ModelRegistry(database)


def publish(registry: ModelRegistry, model: str = "ants-bees", **more: Any) -> Version:
    return registry.add_version(model, artifact=f"models/{model}/a/", manifest=MANIFEST, size_bytes=7, **more)


def test_a_version_is_what_was_published(registry: ModelRegistry) -> None:
    made = publish(registry, job_id="job_1")

    assert made == registry.get_version("ants-bees", 1)
    assert (made.model, made.number, made.artifact, made.size_bytes) == ("ants-bees", 1, "models/ants-bees/a/", 7)
    assert (made.architecture, made.labels, made.metrics) == ("lenet5", ("ant", "bee"), {"accuracy": 0.93})
    assert made.manifest == MANIFEST
    assert made.job_id == "job_1"
    assert made.created_at.utcoffset() is not None


def test_an_artifact_may_be_larger_than_an_integer(registry: ModelRegistry) -> None:
    made = registry.add_version("big", artifact="a/", manifest={}, size_bytes=2**40)

    assert registry.get_version("big", 1).size_bytes == made.size_bytes == 2**40


def test_the_reference_decides_the_version(registry: ModelRegistry) -> None:
    for _ in range(3):
        publish(registry)
    assert registry.resolve("ants-bees").number == 3
    registry.set_alias("ants-bees", "production", 1)
    registry.set_alias("ants-bees", "candidate", 2)

    assert registry.resolve("ants-bees").number == 1
    assert registry.resolve("ants-bees").aliases == ("production",)
    assert registry.resolve("ants-bees@candidate").number == 2
    assert registry.resolve("ants-bees@latest").number == 3
    assert registry.resolve("ants-bees:3").number == 3


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("nobody", "model"),
        ("nobody@latest", "model"),
        ("nobody:1", "model"),
        ("ants-bees@production", "alias"),
        ("ants-bees:2", "version"),
        ("ants-bees:999999999", "version"),
    ],
)
def test_what_a_reference_misses_is_said(registry: ModelRegistry, reference: str, kind: str) -> None:
    publish(registry)

    with pytest.raises(NotFound) as caught:
        registry.resolve(reference)
    assert (caught.value.kind, caught.value.name) == (kind, reference if kind != "model" else "nobody")


def test_a_model_without_versions_has_no_latest(registry: ModelRegistry) -> None:
    publish(registry)
    registry.delete_version("ants-bees", 1)

    assert registry.get_model("ants-bees").latest is None
    for reference in ("ants-bees", "ants-bees@latest"):
        with pytest.raises(NotFound) as caught:
            registry.resolve(reference)
        assert caught.value.kind == "version"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "@",
            ":",
            "a@",
            "a:",
            "a:0",
            "a:01",
            "a:-1",
            "a:x",
            "a:1000000000",
            "a::1",
            "a:1@b",
            "a@b:1",
            "a@@b",
        ),
        *("Ants", "-ants", "a b", "a/b", "../a", "a" * 64, "a\n", "a\x00", "é", "a@1b", "a@B", "a@" + "b" * 33),
    ],
)
def test_what_is_no_reference_is_refused(registry: ModelRegistry, text: str) -> None:
    with pytest.raises(InvalidReference, match="name@alias"):
        registry.resolve(text)


def test_resolving_is_one_query(registry: ModelRegistry, database: Database) -> None:
    publish(registry)
    registry.set_alias("ants-bees", "production", 1)
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))

    for reference in ("ants-bees", "ants-bees@latest", "ants-bees@production", "ants-bees:1"):
        registry.resolve(reference)

    assert len([text for text in asked if text.startswith("SELECT")]) == 4


def test_numbers_are_never_given_twice(registry: ModelRegistry) -> None:
    assert [publish(registry).number for _ in range(3)] == [1, 2, 3]
    registry.delete_version("ants-bees", 3)
    assert publish(registry).number == 4

    registry.delete_model("ants-bees")

    assert publish(registry).number == 5


def test_a_number_of_the_callers_must_be_above_all_that_were_given(registry: ModelRegistry) -> None:
    assert publish(registry, number=7).number == 7
    assert publish(registry).number == 8
    for number in (7, 8, 3):
        with pytest.raises(Conflict, match="never given twice"):
            publish(registry, number=number)
    assert registry.get_model("ants-bees").versions == 2


def test_a_job_publishes_once(registry: ModelRegistry) -> None:
    first = publish(registry, job_id="job_1")

    assert publish(registry, job_id="job_1") == first
    assert publish(registry, job_id="job_2").number == 2


@pytest.mark.parametrize(
    "name", ["", "Ants", "-a", ".a", "a b", "a/b", "a@b", "a:1", "a" * 64, "a\n", "a\x00", "é"]
)
def test_a_model_needs_a_name_that_a_reference_can_hold(registry: ModelRegistry, name: str) -> None:
    with pytest.raises(InvalidName, match="small letters"):
        publish(registry, name)
    with pytest.raises(NotFound):
        registry.get_model(name)
    with pytest.raises(NotFound):
        registry.list_versions(name, 10)
    with pytest.raises(NotFound):
        registry.get_version(name, 1)
    with pytest.raises(NotFound):
        registry.delete_model(name)
    with pytest.raises(NotFound):
        registry.delete_version(name, 1)
    with pytest.raises(NotFound):
        registry.set_alias(name, "production", 1)


def test_an_alias_moves(registry: ModelRegistry) -> None:
    publish(registry)
    publish(registry)
    assert registry.set_alias("ants-bees", "production", 2).aliases == {"production": 2}
    before = registry.get_model("ants-bees")

    after = registry.set_alias("ants-bees", "production", 1)

    assert after.aliases == {"production": 1}
    assert after.updated_at >= before.updated_at
    assert registry.delete_alias("ants-bees", "production").aliases == {}
    with pytest.raises(NotFound, match="ants-bees@production"):
        registry.delete_alias("ants-bees", "production")


def test_an_alias_needs_a_version_to_point_at(registry: ModelRegistry) -> None:
    publish(registry)
    for number in (0, -1, 2, 10**30):
        with pytest.raises(NotFound, match="version"):
            registry.set_alias("ants-bees", "production", number)


@pytest.mark.parametrize("alias", ["latest", "", "1a", "A", "a b", "a" * 33, "a\x00", "é"])
def test_an_alias_needs_a_name_of_its_own(registry: ModelRegistry, alias: str) -> None:
    publish(registry)
    with pytest.raises(InvalidName):
        registry.set_alias("ants-bees", alias, 1)
    with pytest.raises(InvalidName):
        registry.delete_alias("ants-bees", alias)


def test_a_version_that_an_alias_needs_stays(registry: ModelRegistry) -> None:
    publish(registry)
    registry.set_alias("ants-bees", "production", 1)
    with pytest.raises(InUse, match="production"):
        registry.delete_version("ants-bees", 1)

    registry.delete_alias("ants-bees", "production")

    assert registry.delete_version("ants-bees", 1).artifact == "models/ants-bees/a/"
    with pytest.raises(NotFound):
        registry.delete_version("ants-bees", 1)


def test_a_deleted_model_takes_its_versions_and_aliases_along(registry: ModelRegistry) -> None:
    publish(registry)
    publish(registry)
    registry.set_alias("ants-bees", "production", 1)

    assert [version.number for version in registry.delete_model("ants-bees", force=True)] == [2, 1]

    for call in (registry.get_model, registry.delete_model, registry.resolve):
        with pytest.raises(NotFound):
            call("ants-bees")


def test_models_are_listed_by_name_and_found_by_a_part_of_it(registry: ModelRegistry) -> None:
    for name in ("b_c", "ab", "a-b", "a.b", "bxc", "0"):
        publish(registry, name)
    publish(registry, "ab")
    registry.set_alias("ab", "production", 1)

    listed = registry.list_models(10).items
    assert [model.name for model in listed] == ["0", "a-b", "a.b", "ab", "b_c", "bxc"]
    assert listed[3] == registry.get_model("ab")
    assert (listed[3].aliases, listed[3].latest, listed[3].versions) == ({"production": 1}, 2, 2)
    assert [model.name for model in registry.list_models(10, search="B_C").items] == ["b_c"]
    assert registry.list_models(10, search="\x00").items == ()


def test_pages_neither_repeat_nor_skip_a_model_while_others_arrive(registry: ModelRegistry) -> None:
    names = [f"m{number:02}" for number in range(5)]
    for name in names:
        publish(registry, name)
    first = registry.list_models(2)
    publish(registry, "m00-before")
    publish(registry, "z-after")
    second = registry.list_models(10, first.next_cursor)

    assert [model.name for model in first.items + second.items] == ["m00", "m01", "m02", "m03", "m04", "z-after"]
    assert second.next_cursor is None


def test_versions_are_listed_newest_first(registry: ModelRegistry) -> None:
    for _ in range(5):
        publish(registry)
    registry.set_alias("ants-bees", "production", 4)

    first = registry.list_versions("ants-bees", 2)
    publish(registry)
    second = registry.list_versions("ants-bees", 10, first.next_cursor)

    assert [version.number for version in first.items + second.items] == [5, 4, 3, 2, 1]
    assert first.items[1].aliases == ("production",)
    assert second.next_cursor is None
    for cursor in ("x", "ImEi", "LTE", "OTk5OTk5OTk5OTk5", "dHJ1ZQ"):
        with pytest.raises(InvalidCursor):
            registry.list_versions("ants-bees", 10, cursor)


# Many at once


def test_50_threads_publish_1_to_50(registry: ModelRegistry) -> None:
    with ThreadPoolExecutor(50) as pool:
        numbers = list(pool.map(lambda _: publish(registry).number, range(50)))

    assert sorted(numbers) == list(range(1, 51))


def test_a_job_that_publishes_in_many_threads_publishes_once(registry: ModelRegistry) -> None:
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda _: publish(registry, job_id="job_1").number, range(16)))

    assert set(numbers) == {1}
    assert publish(registry).number == 2


def replace(registry: ModelRegistry, artifact: str, expected: str = "models/ants-bees/a/", **more: Any) -> Version:
    manifest = {**MANIFEST, "variants": {"int8": {"passed": True}}}
    return registry.replace_artifact(
        "ants-bees", 1, expected=expected, artifact=artifact, manifest=manifest, size_bytes=9, **more
    )


def test_a_versions_files_are_replaced_and_nothing_else_of_it(registry: ModelRegistry) -> None:
    before = publish(registry, job_id="job_1")
    registry.set_alias("ants-bees", "production", 1)
    now = replace(registry, "models/ants-bees/b")
    assert now == registry.resolve("ants-bees")
    assert (now.artifact, now.size_bytes, now.manifest["variants"]) == (
        "models/ants-bees/b",
        9,
        {"int8": {"passed": True}},
    )
    assert (now.number, now.job_id, now.created_at, now.labels, now.aliases) == (
        1,
        "job_1",
        before.created_at,
        before.labels,
        ("production",),
    )
    assert registry.artifacts() == {"models/ants-bees/b"}


def test_files_that_were_replaced_meanwhile_are_not_replaced_again(registry: ModelRegistry) -> None:
    publish(registry)
    replace(registry, "models/ants-bees/b")
    with pytest.raises(Conflict, match="replaced meanwhile"):
        replace(registry, "models/ants-bees/c")
    assert registry.get_version("ants-bees", 1).artifact == "models/ants-bees/b"


@pytest.mark.parametrize("gone", [ModelRegistry.delete_version, ModelRegistry.delete_model])
def test_files_of_a_version_that_was_deleted_are_not_replaced(registry: ModelRegistry, gone: Any) -> None:
    publish(registry)
    publish(registry)
    gone(registry, "ants-bees", *([1] if gone is ModelRegistry.delete_version else []))
    with pytest.raises(NotFound):
        replace(registry, "models/ants-bees/b")


def test_a_zombie_cannot_replace_files(registry: ModelRegistry, database: Database) -> None:
    ledger = JobLedger(database)
    publish(registry)
    job = ledger.create("variants", {})
    zombie = ledger.take(job.id, "w1", lease_s=-1)
    assert zombie is not None
    assert ledger.take(job.id, "w2", lease_s=60) is not None
    with pytest.raises(LeaseLost), ledger.transaction(zombie) as transaction:
        replace(registry, "models/ants-bees/b", within=transaction)
    assert registry.get_version("ants-bees", 1).artifact == "models/ants-bees/a/"


def test_whose_files_a_version_has_is_known_by_its_job_and_by_where_they_lie(registry: ModelRegistry) -> None:
    publish(registry, job_id="job_1")
    replace(registry, "models/ants-bees/job_2/att")
    assert registry.has_files_of("job_1", "models/ants-bees/job_1")
    assert registry.has_files_of("job_2", "models/ants-bees/job_2/")
    assert not registry.has_files_of("job_", "models/ants-bees/job_")
    assert not registry.has_files_of("job_3", "models/ants_bees/job_2")


def publish_held(
    registry: ModelRegistry, ledger: JobLedger, attempt: Attempt, model: str = "ants-bees"
) -> Version:
    with ledger.transaction(attempt) as transaction:
        return publish(registry, model, job_id=attempt.job.id, within=transaction)


def test_a_zombie_cannot_publish(registry: ModelRegistry, database: Database) -> None:
    ledger = JobLedger(database)
    job = ledger.create("finetune", {})
    zombie = ledger.take(job.id, "w1", lease_s=-1)
    heir = ledger.take(job.id, "w2", lease_s=60)
    assert zombie is not None
    assert heir is not None

    with pytest.raises(LeaseLost):
        publish_held(registry, ledger, zombie)
    assert registry.list_models(10).items == ()

    assert publish_held(registry, ledger, heir).number == 1
    with pytest.raises(LeaseLost):
        publish_held(registry, ledger, zombie)
    ledger.succeed(heir, {})
    with pytest.raises(LeaseLost):
        publish_held(registry, ledger, heir)


def test_a_version_its_alias_and_the_end_of_its_job_are_one_step(
    registry: ModelRegistry, database: Database
) -> None:
    ledger = JobLedger(database)
    attempt = ledger.take(ledger.create("finetune", {}).id, "w1", lease_s=60)
    assert attempt is not None

    def publish_and_end(fail: bool) -> None:
        with ledger.transaction(attempt) as transaction:
            version = publish(registry, job_id=attempt.job.id, within=transaction)
            registry.set_alias(version.model, "production", version.number, within=transaction)
            ledger.succeed(attempt, {"version": version.number}, within=transaction)
            if fail:
                raise RuntimeError("the process dies")

    with pytest.raises(RuntimeError):
        publish_and_end(fail=True)
    assert registry.list_models(10).items == ()
    publish_and_end(fail=False)
    assert registry.get_model("ants-bees").aliases == {"production": 1}
    assert ledger.get(attempt.job.id).result == {"version": 1}


def test_a_job_is_not_taken_over_while_its_version_is_being_published(
    registry: ModelRegistry, database: Database
) -> None:
    """Between the look at the token and the commit, the job stays with the one who looked."""
    ledger = JobLedger(database)
    job = ledger.create("finetune", {})
    late = ledger.take(job.id, "w1", lease_s=-1)
    assert late is not None
    with ThreadPoolExecutor(1) as pool:
        takeovers: list[Future[Attempt | None]] = []

        def meanwhile(*args: Any) -> None:
            if args[2].startswith("INSERT INTO versions"):
                takeovers.append(pool.submit(ledger.take, job.id, "w2", 60))
                with pytest.raises(TimeoutError):
                    takeovers[0].result(timeout=0.5)

        event.listen(database.engine, "before_cursor_execute", meanwhile)
        publish_held(registry, ledger, late)
        event.remove(database.engine, "before_cursor_execute", meanwhile)
        assert takeovers[0].result(timeout=30) is not None


def test_of_a_publisher_and_the_one_who_takes_its_job_over_one_wins(
    registry: ModelRegistry, database: Database
) -> None:
    """The heir always gets a version; the late one either got the same, or was refused."""
    ledger = JobLedger(database)

    with ThreadPoolExecutor(2) as pool:
        for round_ in range(20):
            job = ledger.create("finetune", {"round": round_})
            late = ledger.take(job.id, "w1", lease_s=-1)
            assert late is not None
            name = job.id.lower()
            publishing = pool.submit(_publish_as, registry, ledger, name, late)
            heir = pool.submit(ledger.take, job.id, "w2", 60).result()
            assert heir is not None
            assert publishing.result() in (1, None)
            assert _publish_as(registry, ledger, name, heir) == 1
            assert registry.get_model(name).versions == 1


def _publish_as(registry: ModelRegistry, ledger: JobLedger, model: str, attempt: Attempt) -> int | None:
    try:
        return publish_held(registry, ledger, attempt, model).number
    except LeaseLost:
        return None


def test_aliases_move_while_versions_come_and_go(registry: ModelRegistry) -> None:
    """Whoever loses is told so in our words; nobody deadlocks."""
    for _ in range(8):
        publish(registry)

    def change(step: int) -> None:
        number = step % 8 + 1
        try:
            if step % 3 == 0:
                registry.set_alias("ants-bees", "production", number)
            elif step % 3 == 1:
                registry.delete_version("ants-bees", number)
            else:
                registry.delete_alias("ants-bees", "production")
        except (NotFound, InUse):
            pass
        publish(registry)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(48)))

    model = registry.get_model("ants-bees")
    for number in model.aliases.values():
        assert registry.get_version("ants-bees", number).number == number
    assert model.latest == 8 + 48


def test_a_model_is_described_and_tagged(registry: ModelRegistry, database: Database) -> None:
    publish(registry)
    assert (registry.get_model("ants-bees").description, registry.get_model("ants-bees").tags) == (None, ())

    registry.describe_model("ants-bees", description="Ants\nand bees \u2013 ours.", tags=["team:bugs", "a", "a"])
    described = registry.describe_model("ants-bees")

    assert (described.description, described.tags) == ("Ants\nand bees \u2013 ours.", ("a", "team:bugs"))
    assert registry.list_models(10).items == (described,) == (registry.get_model("ants-bees"),)
    assert registry.describe_model("ants-bees", tags=()).description == described.description
    assert registry.describe_model("ants-bees", description=None).description is None


def test_what_changes_nothing_of_a_description_leaves_no_entry(
    registry: ModelRegistry, database: Database
) -> None:
    publish(registry)
    before = registry.describe_model("ants-bees", description="Ants.", tags=["a", "b"])
    assert registry.describe_model("ants-bees", description="Ants.", tags=["b", "a"]) == before

    (entry,) = AuditLog(database).list(10, action="model.describe").items
    assert entry.detail == {
        "description": {"from": None, "to": "Ants."}, "tags": {"from": [], "to": ["a", "b"]},
    }  # fmt: skip


def test_models_are_found_by_tag_and_description(registry: ModelRegistry) -> None:
    for name, tags in (("ants", ["bugs", "garden"]), ("bees", ["bugs"]), ("cars", [])):
        publish(registry, name)
        registry.describe_model(name, description=f"Pictures of {name.upper()}.", tags=tags)

    def found(search: str | None = None, *tags: str) -> list[str]:
        return [model.name for model in registry.list_models(10, search=search, tags=tags).items]

    assert found(None, "bugs") == ["ants", "bees"]
    assert found(None, "bugs", "garden") == ["ants"]
    assert found(None, "bug") == found(None, "\x00") == []
    assert found("of cars") == ["cars"]
    assert found("pictures", "garden") == ["ants"]


def test_tags_go_with_their_model(registry: ModelRegistry) -> None:
    publish(registry)
    registry.describe_model("ants-bees", tags=["a"])
    registry.delete_model("ants-bees")
    publish(registry)
    assert registry.get_model("ants-bees").tags == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"description": "x" * 2001},
        {"description": "a\u202eb"},
        {"description": "a\x00b"},
        {"tags": [""]},
        {"tags": ["A"]},
        {"tags": ["x" * 64]},
        {"tags": [f"t{n}" for n in range(21)]},
    ],
)
def test_what_is_no_description_or_tag_is_refused(registry: ModelRegistry, wrong: dict[str, Any]) -> None:
    publish(registry)
    with pytest.raises(InvalidName):
        registry.describe_model("ants-bees", **wrong)
    with pytest.raises(NotFound):
        registry.describe_model("nobody", tags=["a"])
