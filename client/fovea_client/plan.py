"""Plans: what a call does, step by step, written once for programs that wait and for those that await.

A plan is a generator. It yields steps, each of which somebody else takes for it (`sync_session.py` and
`async_session.py` are the two who can), is sent what came of the step, and returns its result. A feed is a plan
that also has items to give while it goes on. Neither does any input or output itself.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from fovea_client.request import Request

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send a request; gives its answer, read whole. Raises Unreachable into the plan."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request; gives an `Opened`, whose body is read whole only where it is an error's.

    It is closed with the plan at the latest.
    """

    request: Request


@dataclass(frozen=True)
class Opened:
    """An answer that is still coming. `pieces` is the session's own iterator over its bytes."""

    response: httpx.Response
    pieces: Any


@dataclass(frozen=True)
class Read:
    """Gives the next bytes of an answer, none at its end. Raises Unreachable into the plan."""

    opened: Opened


@dataclass(frozen=True)
class Close:
    """Nobody reads the rest of an answer."""

    opened: Opened


@dataclass(frozen=True)
class Sleep:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Compute:
    """Gives what the function returns, which may take a while: it reads files, packs or encodes."""

    work: Callable[[], Any]


@dataclass(frozen=True)
class Gather:
    """Give the results of plans in their order, with so many under way at once. The first error ends all."""

    plans: "Sequence[Plan[Any]]"
    at_once: int


@dataclass(frozen=True)
class Emit:
    """An item of a feed."""

    item: Any


Step = Send | Open | Read | Close | Sleep | Compute | Gather | Emit
Plan = Generator[Step, Any, T]
# The type is that of the items.
Feed = Generator[Step, Any, T | None]


def send(request: Request) -> Plan[httpx.Response]:
    response: httpx.Response = yield Send(request)
    return response


def opened(request: Request) -> Plan[Opened]:
    answer: Opened = yield Open(request)
    return answer


def read(answer: Opened) -> Plan[bytes]:
    piece: bytes = yield Read(answer)
    return piece


def compute(work: Callable[[], T]) -> Plan[T]:
    result: T = yield Compute(work)
    return result


def gather(plans: Sequence[Plan[T]], at_once: int) -> Plan[list[T]]:
    results: list[T] = yield Gather(plans, at_once)
    return results


def each(feed: Feed[T], use: Callable[[T], object]) -> Plan[None]:
    """Take the feed's steps as one's own, and `use` each of its items."""
    reply: Any = None
    error: Exception | None = None
    try:
        while True:
            try:
                step = feed.throw(error) if error else feed.send(reply)
            except StopIteration:
                return
            reply = error = None
            if isinstance(step, Emit):
                use(step.item)
                continue
            try:
                reply = yield step
            except Exception as raised:  # noqa: BLE001 - it is the feed's to handle
                error = raised
    finally:
        feed.close()
