"""How to give memory back, and who is to go first where there is none."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_HIGHEST = "1000"


def trim_heap() -> None:
    """Give the free pages of the heap back to the system: a millisecond or two, in which others may allocate.

    glibc itself shrinks a heap only from its end, so that one small object keeps everything freed below it. With
    another C library nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def first_when_memory_is_short() -> Iterator[None]:
    """Within the block the kernel ends this process before any other where memory is short. Off Linux nothing."""
    before = None
    with suppress(OSError):
        before = _OOM_SCORE.read_text()
        _OOM_SCORE.write_text(_HIGHEST)
    try:
        yield
    finally:
        # A process may go back to what it was given, though not below.
        with suppress(OSError):
            if before is not None:
                _OOM_SCORE.write_text(before)
