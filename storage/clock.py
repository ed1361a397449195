"""The database's own clock, as SQL expressions.

Leases are compared by one clock, the database's, because the clocks of the workers differ.
"""

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import bindparam
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from storage.columns import Utc

# SQLAlchemy keeps a SQLite time as text with six decimals; SQLite's own clock has three.
_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f000"


class from_now(FunctionElement[Any]):
    """The time so many seconds from now by the database's clock; negative seconds are in the past."""

    type = Utc()
    inherit_cache = True

    def __init__(self, seconds: float) -> None:
        super().__init__(bindparam("seconds", float(seconds), type_=Float(), unique=True))


def now() -> from_now:
    """The time by the database's clock, when the statement began."""
    return from_now(0.0)


@compiles(from_now, "postgresql")
def _postgresql(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(from_now, "sqlite")
def _sqlite(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"strftime('{_SQLITE_FORMAT}', 'now', ({compiler.process(element.clauses, **kw)}) || ' seconds')"
