"""So many at once and no more: what holds a disk, a thread or a connection for long."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.errors import Problem
from storage.keys import Key

RETRY_AFTER = {"Retry-After": "10"}


@dataclass
class Slots:
    """`limit` slots for `what`; who finds none gets a `refusal` at once, for waiting would hold a connection."""

    limit: int
    what: str
    refusal: Callable[[str], Problem]
    _taken: Counter[str] = field(default_factory=Counter, init=False)

    @contextmanager
    def one(self, key: Key | None) -> Iterator[None]:
        """A slot for the block. Raises Problem 429 when none is free, or the key has its share of them."""
        owner = key.prefix if key else ""
        if self._taken.total() >= self.limit:
            raise self.refusal(f"{self.limit} {self.what}, which is the limit; try again later.")
        if key and self._taken[owner] >= share(self.limit):
            kept = f"the other {self.limit - share(self.limit)} of {self.limit} are kept for other keys"
            raise self.refusal(f"{self._taken[owner]} {self.what} with this key, and {kept}; try again later.")
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            # Keys come and go; +Counter drops those at 0.
            self._taken = +self._taken


def share(limit: int) -> int:
    """What one key may have of what all have together: who holds it by sending slowly stops nobody else."""
    return limit - limit // 4


def upload_slots(limit: int) -> Slots:
    return Slots(
        limit, "uploads are under way", lambda detail: Problem(429, "too_many_uploads", detail, RETRY_AFTER)
    )


def event_stream_slots(limit: int) -> Slots:
    without = "A job's state can be asked for without one: GET /v1/jobs/{id}."
    return Slots(
        limit,
        "event streams are open",
        lambda detail: Problem(429, "too_many_event_streams", f"{detail} {without}", RETRY_AFTER),
    )
