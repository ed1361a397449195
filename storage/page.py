"""Pages of a listing. A cursor is the sort key of the last row seen, so inserts neither repeat nor skip a row."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from storage.errors import InvalidCursor
from storage.text import is_text

T = TypeVar("T")
Key = TypeVar("Key", str, int)

MOST_ROWS = 1000
# The highest number that fits an integer column of PostgreSQL.
HIGHEST = 2**31 - 1


@dataclass(frozen=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None


def bounded(limit: int) -> int:
    """The limit, brought into 1 to 1000."""
    return max(1, min(limit, MOST_ROWS))


def encode_cursor(key: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[Key]) -> Key:
    """The key in a cursor, of the kind that this listing sorts by; anything else raises InvalidCursor."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        key: Any = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        key = None
    if type(key) is not kind or not (is_text(key) if isinstance(key, str) else 0 <= key <= HIGHEST):
        raise InvalidCursor(
            f"{cursor[:100]!r} is not a cursor of this listing. Use `next_cursor` of the page before, unchanged."
        )
    return key
