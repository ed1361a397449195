"""Whether a line of a dump is a row of one of our tables, by its columns and the kinds of their values."""

import functools
import json
import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from sqlalchemy import BigInteger, Column, Table

from storage.errors import BackupUnusable
from storage.tables import Base
from storage.text import is_text

# More is never nested by Fovea, and less than what writes answers as JSON goes through.
_DEEPEST = 100
_INTEGER, _BIG_INTEGER = 2**31, 2**63


def read_row(line: bytes, number: int) -> tuple[Table, dict[str, Any]]:
    """The table that the line names, and its values as SQLAlchemy takes them. Raises BackupUnusable."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BackupUnusable(f"line {number} of its rows is not JSON: {str(error)[:200]}") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("row"), dict):
        raise BackupUnusable(f'line {number} of its rows is no row; expected {{"table": ..., "row": {{...}}}}')
    name = entry.get("table")
    table = Base.metadata.tables.get(name) if isinstance(name, str) else None
    if table is None:
        raise BackupUnusable(f"it has rows of a table {str(name)[:80]!r}, which this release lacks. {_NEWER}")
    if unknown := entry["row"].keys() - table.c.keys():
        raise BackupUnusable(
            f"it has the column {min(unknown)[:80]!r} in its table {table.name}, which this release lacks. "
            + _NEWER
        )
    if missing := {column.name for column in table.primary_key} - entry["row"].keys():
        raise BackupUnusable(f"line {number} of its rows has no {min(missing)} for its table {table.name}")
    values = {column: _checked(table.c[column], value, number) for column, value in entry["row"].items()}
    return table, values


_NEWER = "If a newer release made it, restore it with that one, then upgrade."


class _Kind(NamedTuple):
    """What a column holds: a class, and of a list what its items are."""

    python: type
    items: type | None


def _checked(column: Column[Any], value: Any, number: int) -> Any:
    if value is None and column.nullable:
        return None
    kind = _kinds()[column.table.name, column.name]
    try:
        return _as_column(column, kind, value)
    except (ValueError, TypeError) as error:
        raise BackupUnusable(
            f"line {number} of its rows has {str(value)[:80]!r} as {column.table.name}.{column.name}: {error}"
        ) from None


def _as_column(column: Column[Any], kind: _Kind, value: Any) -> Any:
    """Raises ValueError for what the column does not hold."""
    if kind.python is datetime:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("expected a time with its zone")
        return moment
    if type(value) is not kind.python:
        raise ValueError(f"expected {kind.python.__name__}, not {type(value).__name__}")
    most = _BIG_INTEGER if isinstance(column.type, BigInteger) else _INTEGER
    if isinstance(value, int) and not -most <= value < most:
        raise ValueError(f"expected a number below {most}")
    if isinstance(value, str) and not is_text(value):
        raise ValueError("expected text without NUL and lone surrogates")
    if isinstance(value, list) and kind.items and not all(type(item) is kind.items for item in value):
        raise ValueError(f"expected a list of {kind.items.__name__}")
    if isinstance(value, dict | list):
        _check_json(value)
    return value


def _check_json(value: Any) -> None:
    """Whether it can be written into an answer: not too deep, no number that JSON's other readers lack."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [item for part in level if isinstance(part, dict | list) for item in _items(part)]
        if any(isinstance(item, int) and not -_BIG_INTEGER <= item < _BIG_INTEGER for item in level):
            raise ValueError(f"expected numbers below {_BIG_INTEGER}")
        if not level:
            return
    raise ValueError(f"expected values nested {_DEEPEST} deep at most")


def _items(part: Any) -> Any:
    return part.values() if isinstance(part, Mapping) else part


@functools.cache
def _kinds() -> dict[tuple[str, str], _Kind]:
    """Of every column, as the classes of `storage.tables` declare it."""
    kinds = {}
    for mapper in Base.registry.mappers:
        hints = get_type_hints(mapper.class_)
        for name, column in mapper.columns.items():
            (hint,) = get_args(hints[name])
            if get_origin(hint) in (Union, types.UnionType):
                (hint,) = (part for part in get_args(hint) if part is not types.NoneType)
            items = get_args(hint)[0] if get_origin(hint) is list else None
            kind = _Kind(get_origin(hint) or hint, None if items is Any else items)
            kinds[column.table.name, column.name] = kind
    return kinds
