"""How to give back what the C library keeps of the memory that was freed."""

import ctypes
from contextlib import suppress


def trim_heap() -> None:
    """Give the free pages of the heap back to the system: a millisecond or two, in which others may allocate.

    glibc itself shrinks a heap only from its end, so that one small object keeps everything freed below it. With
    another C library nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
