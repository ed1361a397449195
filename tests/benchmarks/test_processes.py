"""What processes use, and when they rest."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from benchmarks.processes import come_to_rest, memory, usage

SLEEPS = "import time; time.sleep(60)"
SPINS = "while True: pass"


@contextmanager
def child(program: str) -> Iterator[dict[str, int]]:
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            yield {"child": process.pid}
        finally:
            process.kill()


def test_what_rests_is_not_waited_for_and_what_never_rests_only_so_long() -> None:
    with child(SLEEPS) as resting, child(SPINS) as spinning:
        began = time.monotonic()
        come_to_rest(spinning, at_most_s=0.5)
        spun = time.monotonic() - began
        come_to_rest(resting, at_most_s=30)
        used = usage(resting).cpu_s["child"]

    assert spun >= 0.5
    assert time.monotonic() - began < 15
    assert used < 5


def test_memory_of_a_process_that_has_ended_is_no_zero() -> None:
    with child(SLEEPS) as running:
        held = memory(running)

    assert 0 < held.proportional <= held.resident["child"]
    with pytest.raises(psutil.NoSuchProcess):
        memory(running)
