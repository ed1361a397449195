"""So many at once and no more: what holds a disk, a thread or a connection for long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from service.errors import Problem


@dataclass
class Slots:
    """`limit` slots; `refusal` is what who finds none is told, for waiting would hold a connection."""

    limit: int
    refusal: Problem
    taken: int = field(default=0, init=False)

    @contextmanager
    def one(self) -> Iterator[None]:
        """A slot for the block. Raises Problem when none is free."""
        if self.taken >= self.limit:
            raise replace(self.refusal)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


def upload_slots(limit: int) -> Slots:
    detail = f"{limit} uploads are under way, which is the limit; try again later."
    return Slots(limit, Problem(429, "too_many_uploads", detail, {"Retry-After": "10"}))


def event_stream_slots(limit: int) -> Slots:
    detail = f"{limit} event streams are open, which is the limit; try again later, or ask for the job's state."
    return Slots(limit, Problem(429, "too_many_event_streams", detail, {"Retry-After": "10"}))
