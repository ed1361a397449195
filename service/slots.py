"""So many at once and no more: what holds a disk, a thread or a connection for long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.errors import Problem


@dataclass
class Slots:
    """`what` names in the plural what is limited, in the client's words and in the code `too_many_WHAT`."""

    limit: int
    what: str
    retry_after_s: int
    taken: int = field(default=0, init=False)

    @contextmanager
    def one(self) -> Iterator[None]:
        """A slot for the block. Raises Problem 429 when none is free: who waits would hold a connection."""
        if self.taken >= self.limit:
            detail = f"{self.limit} {self.what} are open already, which is the limit; try again later."
            code = f"too_many_{self.what.replace(' ', '_')}"
            raise Problem(429, code, detail, {"Retry-After": str(self.retry_after_s)})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
