"""Gives memory back to the system after a burst of large images, which the C library would keep for good."""

import asyncio

from system.memory import trim_heap

TRIM_EVERY_S = 2.0


async def keep_heap_trimmed(every_s: float = TRIM_EVERY_S) -> None:
    """Trim the heap again and again, until cancelled.

    Where there is nothing to give back that takes 0.03 milliseconds, so nothing has to guess when a burst is over.
    """
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(trim_heap)
