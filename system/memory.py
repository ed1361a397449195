"""How much memory this process has, and how to give back what the C library keeps of what was freed."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """The process's resident memory; 0 where there is no `/proc`."""
    with suppress(OSError):
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def trim_heap() -> None:
    """Give the free pages of the heap back to the system: a millisecond or two, in which others may allocate.

    glibc itself shrinks a heap only from its end, so that one small object keeps everything freed below it. With
    another C library nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
