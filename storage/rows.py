"""Every row as a line of JSON and back, the same for SQLite and PostgreSQL: one can become the other."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from alembic.migration import MigrationContext
from sqlalchemy import Connection, Table, delete, func, inspect, select
from sqlalchemy.orm import Session

from storage.database import Database
from storage.row_check import read_row
from storage.tables import Base, DatasetRow, JobRow, ModelRow

_AT_ONCE = 500
# The longest that are written, reports of datasets, have some 50 MB.
_LONGEST_LINE = 256 * 2**20


def dump_rows(database: Database, target: IO[bytes]) -> tuple[str, dict[str, int]]:
    """Write all rows as they are at one moment, while others write. The schema's revision, and rows by table."""
    counts: dict[str, int] = {}
    with database.session(read_only=True) as session:
        if database.engine.dialect.name == "postgresql":
            # SQLite's read transaction is one moment by itself.
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        revision = str(MigrationContext.configure(session.connection()).get_current_revision())
        for table in Base.metadata.sorted_tables:
            counts[table.name] = 0
            for row in session.execute(select(table)).mappings().yield_per(_AT_ONCE):
                line = {"table": table.name, "row": {name: _plain(value) for name, value in row.items()}}
                target.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                counts[table.name] += 1
    return revision, counts


def load_rows(session: Session, source: IO[bytes]) -> dict[str, int]:
    """Insert the rows of a dump in their order; a key that is there already stays. Rows by table.

    Raises BackupUnusable for what is no row of this release's tables.
    """
    counts: dict[str, int] = {}
    keys = {str(prefix) for prefix in session.scalars(select(Base.metadata.tables["keys"].c.prefix))}
    for table, rows in _batches(source):
        values = [row for row in rows if table.name != "keys" or row["prefix"] not in keys]
        if values:
            session.execute(table.insert(), values)
        counts[table.name] = counts.get(table.name, 0) + len(rows)
    return counts


def clear_rows(connection: Connection) -> None:
    """Delete every row of every table that is there: a database may wait at the revision of an older backup."""
    present = set(inspect(connection).get_table_names())
    for table in reversed(Base.metadata.sorted_tables):
        if table.name in present:
            connection.execute(delete(table))


def is_empty(session: Session) -> bool:
    """Whether nothing was made here yet; API keys alone do not count."""
    return not any(
        session.scalar(select(func.count()).select_from(row).limit(1)) for row in (ModelRow, DatasetRow, JobRow)
    )


def _batches(source: IO[bytes]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """Rows of one table with the same columns, at most a few hundred at once."""
    name, rows = "", list[dict[str, Any]]()
    number = 0
    while line := source.readline(_LONGEST_LINE):
        number += 1
        table, row = read_row(line, number)
        if rows and (table.name != name or row.keys() != rows[0].keys() or len(rows) == _AT_ONCE):
            yield Base.metadata.tables[name], rows
            rows = []
        name = table.name
        rows.append(row)
    if rows:
        yield Base.metadata.tables[name], rows


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
