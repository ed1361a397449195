"""What large photographs cost the gateway's memory, measured on the real process."""

import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from support.colours import picture
from support.load import send_all
from support.stack import Stack

PATH = "/v1/models/colours/classify"
MB = 10**6
AT_ONCE = 32
BURSTS = 4
# What is behind a JPEG's end is no decoder's business, so that nothing here takes a camera or a decoder's time.
PHOTOGRAPH = picture("red", form="JPEG") + bytes(3 * MB + MB // 2)


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """The most bytes that were resident during the block."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        over.set()
        watching.join()


# A process of its own, whose heap no other test has shaped.
HELD_BY_ONE_SMALL_OBJECT = """
import asyncio
import psutil
from service.memory import keep_heap_trimmed

def resident():
    return psutil.Process().memory_info().rss

async def main():
    keeping = asyncio.create_task(keep_heap_trimmed(0.05))
    await asyncio.sleep(0.1)
    before = resident()
    blocks = [bytes([1]) * 100_000 for _ in range(1000)]
    # The heap is trimmed in the middle of the burst, too, where that gives nothing back.
    await asyncio.sleep(0.3)
    most = resident()
    blocks = blocks[-1:]
    kept = resident()
    await asyncio.sleep(0.5)
    keeping.cancel()
    print(before, most, kept, resident())

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps other things")
def test_what_one_small_object_holds_of_a_heap_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HELD_BY_ONE_SMALL_OBJECT], capture_output=True, check=True)
    before, most, kept, after = map(int, done.stdout.split())
    assert most - before > 90 * MB
    assert kept - before > 90 * MB
    assert after - before < 10 * MB


@pytest.mark.slow
def test_bursts_of_photographs_cost_a_piece_of_each_and_leave_nothing_behind(stack: Stack) -> None:
    """They are passed on to Redis while they arrive: what is here is a piece of each, read, cut and on its way."""
    gateway = psutil.Process(stack.processes["gateway"].pid)
    small = [picture("red", noise=seed) for seed in range(1, 9)]
    send_all(stack.port, PATH, small, requests=500, at_once=AT_ONCE)
    before = gateway.memory_info().rss
    for _ in range(BURSTS):
        with peak_of(gateway) as peak:
            replies = send_all(
                stack.port, PATH, [PHOTOGRAPH], requests=64, at_once=AT_ONCE, content_type="image/jpeg"
            )
        assert {reply.status for reply in replies} == {200}
        assert peak[0] - before < AT_ONCE * len(PHOTOGRAPH) / 2
        stack.wait_until(
            lambda: gateway.memory_info().rss < before + 12 * MB,
            f"the gateway to go back to {before / MB:.0f} MB",
            8,
        )
