"""All connections of the gateway: how many there may be, and one look at each of them twice a second.

One timer for all of them, so that a request on the hot path starts and cancels none.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from service.errors import Problem

log = structlog.get_logger()
LOOK_EVERY_S = 0.5
# Refused connections that linger, beside those that count; beyond them nobody is told anything.
LINGERING = 256


@dataclass(frozen=True)
class ConnectionLimits:
    """`per_address` 0 is without a limit of its own. A body must bring `body_bytes_s` on average of `body_s`."""

    connections: int = 1000
    per_address: int = 0
    header_s: float = 10.0
    body_s: float = 20.0
    body_bytes_s: int = 1024
    idle_s: float = 60.0


class Connection(Protocol):
    """One of them, as its protocol shows it."""

    loop: asyncio.AbstractEventLoop

    def look(self, now: float) -> None:
        """End what has taken too long by the loop's clock."""
        ...

    def leave(self) -> None:
        """Close without a word."""
        ...


@dataclass
class Connections:
    """All connections of a server. `on_refused` is told the code of each refusal."""

    limits: ConnectionLimits
    on_refused: Callable[[str], object] = lambda _code: None
    look_every_s: float = LOOK_EVERY_S
    everyone: set[Connection] = field(default_factory=set)
    # Those without a request to answer, the longest without one first.
    unoccupied: dict[Connection, None] = field(default_factory=dict)
    lingering: set[Connection] = field(default_factory=set)
    _of_address: Counter[str] = field(default_factory=Counter, init=False)
    _refused: Counter[str] = field(default_factory=Counter, init=False)
    _is_looking: bool = field(default=False, init=False)

    def enter(self, connection: Connection, address: str) -> Problem | None:
        """Count a new connection; the problem is why it cannot stay.

        When all are taken, the one that has had nothing to answer for longest makes room: whoever opens
        connections and sends nothing keeps nobody out.
        """
        if not self._is_looking:
            self._is_looking = True
            connection.loop.call_later(self.look_every_s, self._look, connection.loop)
        self.everyone.add(connection)
        self._of_address[address] += 1
        if self.limits.per_address and self._of_address[address] > self.limits.per_address:
            return _too_many(self.limits.per_address, "from one address")
        if len(self.everyone) > self.limits.connections:
            longest = next(iter(self.unoccupied), None)
            if longest is None:
                return _too_many(self.limits.connections, "open")
            longest.leave()
        self.unoccupied[connection] = None
        return None

    def refuse(self, connection: Connection, address: str) -> bool:
        """Count a connection as refused only; whether it may stay for a moment, to be told why."""
        self.leave(connection, address)
        self.lingering.add(connection)
        return len(self.lingering) <= LINGERING

    def leave(self, connection: Connection, address: str) -> None:
        self.lingering.discard(connection)
        if connection not in self.everyone:
            return
        self.everyone.discard(connection)
        self.unoccupied.pop(connection, None)
        self._of_address[address] -= 1
        if self._of_address[address] <= 0:
            del self._of_address[address]

    def count(self, code: str) -> None:
        self._refused[code] += 1
        self.on_refused(code)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        everyone = [*self.everyone, *self.lingering]
        self._is_looking = bool(everyone)
        if self._is_looking:
            loop.call_later(self.look_every_s, self._look, loop)
        now = loop.time()
        for connection in everyone:
            connection.look(now)
        if self._refused:
            # One line for all of them: a line for each would let anybody fill the log.
            log.warning("connections.refused", **self._refused)
            self._refused.clear()


def _too_many(limit: int, what: str) -> Problem:
    detail = f"All {limit} connections {what} are taken; try again in a moment."
    return Problem(503, "too_many_connections", detail, {"Retry-After": "2"})
