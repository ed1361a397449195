"""Which revision the tables are at, by SQLite alone: a start looks here before it imports what would migrate."""

import functools
import sqlite3
from contextlib import closing
from pathlib import Path

_REVISIONS = Path(__file__).with_name("migrations") / "versions"
_WAIT_S = 1.0


@functools.cache
def newest_revision() -> str:
    """The revision that this release migrates to: they are numbered, and the files are named by them."""
    return max(path.name.partition("_")[0] for path in _REVISIONS.glob("[0-9]*.py"))


def is_up_to_date(file: Path) -> bool:
    """Whether the SQLite database in `file` is at this release's revision.

    False also for one that is not there or cannot be read: `storage.database.migrate` says what is the matter.
    """
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_WAIT_S)) as connection:
            return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
                (newest_revision(),)
            ]
    except sqlite3.Error:
        return False
