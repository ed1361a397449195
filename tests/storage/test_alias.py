"""The history of aliases: what a rollback goes back to, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from storage.database import Database, migrate, open_database
from storage.errors import Conflict, InUse, InvalidName, NoEarlierVersion, NotFound
from storage.registry import Alias, ModelRegistry

MODEL = "ants-bees"


@pytest.fixture
def registry(database: Database) -> ModelRegistry:
    """With versions 1 to 4 of one model."""
    registry = ModelRegistry(database)
    for number in range(1, 5):
        registry.add_version(MODEL, artifact=f"models/{number}/", manifest={}, size_bytes=1)
    return registry


def promote(registry: ModelRegistry, *numbers: int) -> None:
    for number in numbers:
        registry.set_alias(MODEL, "production", number)


def production(registry: ModelRegistry) -> Alias:
    return registry.get_alias(MODEL, "production")


def roll_back(registry: ModelRegistry) -> int:
    """The version that the alias is at afterwards."""
    alias = production(registry)
    model = registry.rollback(MODEL, "production", present=alias.version, to=alias.previous or 0)
    return model.aliases["production"]


def moved_by_an_older_release(database: Database, number: int) -> None:
    with database.session() as session:
        session.execute(text("UPDATE aliases SET number = :number"), {"number": number})


@pytest.mark.parametrize(
    ("promoted", "back_to"),
    [
        ((1,), []),
        ((1, 3), [1]),
        ((3, 1), [3]),
        ((1, 2, 3), [2, 1]),
        ((1, 2, 1), [2, 1]),
        ((1, 3, 3, 3), [1]),
    ],
)
def test_a_rollback_undoes_the_last_move_until_there_is_none(
    registry: ModelRegistry, promoted: tuple[int, ...], back_to: list[int]
) -> None:
    promote(registry, *promoted)

    assert [roll_back(registry) for _ in back_to] == back_to

    assert production(registry).previous is None
    with pytest.raises(NoEarlierVersion, match="production is at version"):
        roll_back(registry)
    assert registry.resolve(MODEL).number == (back_to or promoted)[-1]


def test_what_is_promoted_after_a_rollback_goes_back_to_where_that_went(registry: ModelRegistry) -> None:
    promote(registry, 1, 2)
    assert roll_back(registry) == 1
    promote(registry, 4)
    assert roll_back(registry) == 1


def test_the_history_says_when_a_version_was_set_and_rolled_back(registry: ModelRegistry) -> None:
    promote(registry, 1, 3)
    roll_back(registry)
    promote(registry, 1, 2)

    alias = production(registry)

    assert (alias.model, alias.name, alias.version, alias.previous) == (MODEL, "production", 2, 1)
    assert [(move.version, move.rolled_back_at is not None) for move in alias.history] == [
        (2, False),
        (3, True),
        (1, False),
    ]
    second, undone, first = alias.history
    assert first.at
    assert undone.at
    assert undone.rolled_back_at
    assert second.at
    assert first.at <= undone.at <= undone.rolled_back_at <= second.at


def test_versions_deleted_meanwhile_are_passed_over(registry: ModelRegistry) -> None:
    promote(registry, 1, 2, 3, 2, 4)
    registry.delete_version(MODEL, 2)
    assert roll_back(registry) == 3
    registry.delete_version(MODEL, 1)
    assert production(registry).previous is None


def test_with_the_version_between_deleted_a_rollback_does_not_stay_where_it_is(registry: ModelRegistry) -> None:
    promote(registry, 3, 1, 2, 1)
    registry.delete_version(MODEL, 2)
    assert roll_back(registry) == 3


def test_each_alias_has_a_history_of_its_own(registry: ModelRegistry) -> None:
    registry.set_alias(MODEL, "candidate", 4)
    promote(registry, 1, 2)
    assert registry.get_alias(MODEL, "candidate").previous is None
    assert roll_back(registry) == 1
    assert registry.get_model(MODEL).aliases == {"candidate": 4, "production": 1}


def test_a_move_by_an_older_release_counts_although_it_was_not_recorded(
    registry: ModelRegistry, database: Database
) -> None:
    promote(registry, 1, 2)
    moved_by_an_older_release(database, 4)

    alias = production(registry)
    assert (alias.version, alias.previous) == (4, 2)
    assert (alias.history[0].version, alias.history[0].at) == (4, None)

    promote(registry, 3)
    assert [move.version for move in production(registry).history] == [3, 4, 2, 1]
    assert [roll_back(registry) for _ in range(3)] == [4, 2, 1]


def test_a_move_by_an_older_release_can_be_rolled_back(registry: ModelRegistry, database: Database) -> None:
    promote(registry, 2)
    moved_by_an_older_release(database, 4)
    assert roll_back(registry) == 2
    newest, _ = production(registry).history
    assert newest.version == 4
    assert newest.rolled_back_at


def test_a_move_by_an_older_release_to_where_it_is_promoted_now_adds_nothing_more(
    registry: ModelRegistry, database: Database
) -> None:
    promote(registry, 1)
    moved_by_an_older_release(database, 2)
    promote(registry, 2)
    assert [move.version for move in production(registry).history] == [2, 1]


def test_an_older_release_deletes_an_alias_with_its_history(registry: ModelRegistry, database: Database) -> None:
    promote(registry, 1, 2)
    with database.session() as session:
        session.execute(text("DELETE FROM aliases"))
    promote(registry, 3)
    assert [move.version for move in production(registry).history] == [3]


def test_the_migration_takes_the_aliases_that_are_there_into_the_history(empty_url: str) -> None:
    migrate(empty_url, "0002")
    database = open_database(empty_url)
    with database.session() as session:
        at = "'2026-11-01 00:00:00+00:00'"
        session.execute(text(f"INSERT INTO models VALUES ('{MODEL}', {at}, {at})"))
        for number in (1, 2):
            values = f"('{MODEL}', {number}, 'a/', '', '{{}}', 1, NULL, {at})"
            session.execute(text(f"INSERT INTO versions VALUES {values}"))
        session.execute(text(f"INSERT INTO aliases VALUES ('{MODEL}', 'production', 1)"))
    migrate(empty_url)
    moved_by_an_older_release(database, 2)

    assert roll_back(ModelRegistry(database)) == 1
    database.close()


def test_a_rollback_that_was_prepared_for_another_move_is_refused(registry: ModelRegistry) -> None:
    promote(registry, 1, 2)
    prepared = production(registry)
    promote(registry, 3)
    with pytest.raises(Conflict, match="at 3 and would go back to 2"):
        registry.rollback(MODEL, "production", present=prepared.version, to=prepared.previous or 0)
    assert registry.resolve(MODEL).number == 3


def test_of_many_rollbacks_at_once_each_undoes_a_move_of_its_own(registry: ModelRegistry) -> None:
    promote(registry, 1, 2, 3, 4)
    prepared = production(registry)

    def undo(_: int) -> bool:
        try:
            registry.rollback(MODEL, "production", present=prepared.version, to=prepared.previous or 0)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(undo, range(8))) == 1
    assert registry.resolve(MODEL).number == 3


def test_what_has_no_history_is_said(registry: ModelRegistry) -> None:
    for kind, model, alias in (("model", "nobody", "production"), ("alias", MODEL, "production")):
        with pytest.raises(NotFound) as missing:
            registry.get_alias(model, alias)
        assert missing.value.kind == kind
        with pytest.raises(NotFound) as missing:
            registry.rollback(model, alias, present=2, to=1)
        assert missing.value.kind == kind
    with pytest.raises(InvalidName, match="moves by itself"):
        registry.get_alias(MODEL, "latest")
    with pytest.raises(InvalidName, match="moves by itself"):
        registry.rollback(MODEL, "latest", present=2, to=1)


def test_a_deleted_alias_begins_anew(registry: ModelRegistry) -> None:
    promote(registry, 1, 2)
    registry.delete_alias(MODEL, "production")
    promote(registry, 3)
    assert production(registry).previous is None


@pytest.mark.parametrize("what", ["version", "model"])
def test_what_an_alias_points_at_is_deleted_only_by_force(registry: ModelRegistry, what: str) -> None:
    promote(registry, 1, 2)
    registry.set_alias(MODEL, "candidate", 2)

    def delete(*, force: bool) -> None:
        if what == "version":
            registry.delete_version(MODEL, 2, force=force)
        else:
            registry.delete_model(MODEL, force=force)

    with pytest.raises(InUse, match=r"candidate.*production"):
        delete(force=False)
    assert registry.get_model(MODEL).versions == 4

    delete(force=True)

    for alias in ("candidate", "production"):
        with pytest.raises(NotFound):
            registry.get_alias(MODEL, alias)
    if what == "version":
        assert registry.get_model(MODEL).versions == 3
