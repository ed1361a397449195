"""Every row as a line of JSON and back, the same for SQLite and PostgreSQL: one can become the other."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import IO, Any

from alembic.migration import MigrationContext
from sqlalchemy import Connection, Table, delete, func, inspect, select
from sqlalchemy.orm import Session

from storage.columns import Utc
from storage.database import Database
from storage.errors import StorageError
from storage.tables import AuditRow, Base, DatasetRow, JobRow, KeyRow, ModelRow

_AT_ONCE = 500
# Where these are restored into, they may be already.
_KEPT = {KeyRow.__tablename__, AuditRow.__tablename__}


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
    """Insert the rows of a dump in their order; of keys and the audit log, what is there stays. Rows by table.

    Raises StorageError for a table or column that this release does not have.
    """
    counts: dict[str, int] = {}
    for name, rows in _batches(source):
        table = Base.metadata.tables.get(name)
        unknown = set() if table is None else {column for row in rows for column in row} - set(table.c.keys())
        if table is None or unknown:
            what = f"columns {', '.join(sorted(unknown))} in its table {name}" if unknown else f"a table {name}"
            raise StorageError(
                f"The backup has {what}, which this release lacks. Restore it with the release that made it, "
                "then upgrade."
            )
        known = _known(session, table, rows) if name in _KEPT else set()
        values = [_typed(table, row) for row in rows if not known or row[_only_key(table)] not in known]
        if values:
            session.execute(table.insert(), values)
        counts[name] = counts.get(name, 0) + len(rows)
    return counts


def clear_rows(connection: Connection) -> None:
    """Delete every row of every table that is there: a database may wait at the revision of an older backup.

    But those of the audit log, or a restore would hide what was done before it.
    """
    present = set(inspect(connection).get_table_names()) - {AuditRow.__tablename__}
    for table in reversed(Base.metadata.sorted_tables):
        if table.name in present:
            connection.execute(delete(table))


def is_empty(session: Session) -> bool:
    """Whether nothing was made here yet; API keys alone do not count."""
    return not any(
        session.scalar(select(func.count()).select_from(row).limit(1)) for row in (ModelRow, DatasetRow, JobRow)
    )


def _known(session: Session, table: Table, rows: list[Mapping[str, Any]]) -> set[Any]:
    """Which of the rows are there, by their keys."""
    key = _only_key(table)
    return set(session.scalars(select(table.c[key]).where(table.c[key].in_([row[key] for row in rows]))))


def _only_key(table: Table) -> str:
    (column,) = table.primary_key.columns
    return column.name


def _batches(source: IO[bytes]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Rows of one table, at most a few hundred at once."""
    table = ""
    rows: list[Mapping[str, Any]] = []
    for line in source:
        entry = json.loads(line)
        if rows and (entry["table"] != table or len(rows) == _AT_ONCE):
            yield table, rows
            rows = []
        table = entry["table"]
        rows.append(entry["row"])
    if rows:
        yield table, rows


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _typed(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) if isinstance(table.c[name].type, Utc) and value is not None else value
        for name, value in row.items()
    }
