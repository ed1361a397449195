"""Sortable ids: a prefix and a ULID (https://github.com/ulid/spec), such as `job_01J9Z3NDEKTSV4RRFFQ69G5FAV`.

Ids made later sort later: across processes to the millisecond, within one process always.
"""

import functools
import secrets
import threading
import time
from datetime import UTC, datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80
_LENGTH = 26


class _Sequence:
    """The last number given. Within one millisecond the next is one more, as the specification allows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._lock:
            fresh = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
            same_moment = fresh >> _RANDOM_BITS <= self._last >> _RANDOM_BITS
            self._last = self._last + 1 if same_moment else fresh
            return self._last


_sequence = _Sequence()


def made_at(identifier: str) -> datetime:
    """When the id was made, in UTC; the epoch for what is no id."""
    digits = identifier.rpartition("_")[2]
    if len(digits) != _LENGTH or set(digits) - set(_ALPHABET):
        return datetime.fromtimestamp(0, UTC)
    number = functools.reduce(lambda value, digit: value << 5 | _ALPHABET.index(digit), digits, 0)
    return datetime.fromtimestamp((number >> _RANDOM_BITS) / 1000, UTC)


def new_id(prefix: str) -> str:
    """A new id, e.g. `new_id("job")` -> `job_` and 26 characters of Crockford's base 32."""
    number = _sequence.next()
    digits = (_ALPHABET[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))
    return f"{prefix}_{''.join(digits)}"
