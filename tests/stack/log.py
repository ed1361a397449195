"""Each step of the stack test on a line of its own, with its time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_STARTED = time.monotonic()


class StepFailed(Exception):
    """Something is not as it has to be; the text says what."""


@contextmanager
def step(what: str) -> Iterator[None]:
    """Prints the step when it is over, with the moment and how long it took."""
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"FAIL  {what} ({time.monotonic() - begun:.1f} s)")
        raise
    say(f"ok    {what} ({time.monotonic() - begun:.1f} s)")


def say(text: str) -> None:
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {text}", flush=True)


def require(holds: object, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


def warn(text: str) -> None:
    print(f"\n*** {text} ***\n", file=sys.stderr, flush=True)
