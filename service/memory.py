"""Gives memory back to the system after a burst of large images, which the C library would keep for good."""

import asyncio

from system.memory import resident_bytes, trim_heap

CHECK_EVERY_S = 2.0
WORTH_BYTES = 8 * 2**20


async def keep_heap_trimmed(check_every_s: float = CHECK_EVERY_S) -> None:
    """Trim the heap whenever the process has become larger or smaller since the last trim, until cancelled.

    A trim that gave much back is followed by another: the burst may have been in the middle then.
    """
    settled, given_back = resident_bytes(), 0
    while True:
        await asyncio.sleep(check_every_s)
        before = resident_bytes()
        if max(abs(before - settled), given_back) < WORTH_BYTES:
            continue
        await asyncio.to_thread(trim_heap)
        settled = resident_bytes()
        given_back = before - settled
