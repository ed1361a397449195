"""Whether a database needs migrating, told before anything is imported that could migrate it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.revision import is_up_to_date, newest_revision


def at(revision: str) -> Callable[[Path], object]:
    def set_revision(file: Path) -> None:
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.close()

    return set_revision


def test_a_migrated_database_is_up_to_date(sqlite_template: Path) -> None:
    assert is_up_to_date(sqlite_template)


@pytest.mark.parametrize(
    "change",
    [at("0001"), at("9999"), Path.unlink, lambda file: file.write_bytes(b"no database")],
    ids=["older", "newer", "gone", "damaged"],
)
def test_whatever_else_lies_there_is_left_to_the_migration(
    change: Callable[[Path], object], sqlite_template: Path, tmp_path: Path
) -> None:
    file = tmp_path / "fovea.db"
    file.write_bytes(sqlite_template.read_bytes())
    change(file)
    assert not is_up_to_date(file)


def test_a_database_without_tables_is_not_up_to_date(tmp_path: Path) -> None:
    empty = tmp_path / "fovea.db"
    sqlite3.connect(empty).close()
    assert not is_up_to_date(empty)
    assert newest_revision() > "0000"
