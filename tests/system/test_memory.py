"""What a process holds, and what it gives back when asked."""

import subprocess
import sys

import pytest

from system.memory import trim_heap


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_process_sees_what_it_holds_grow() -> None:
    # In a process of its own: this one may have room left of what other tests gave back.
    code = (
        "from system.memory import resident_bytes; before = resident_bytes(); held = bytes([1]) * 50_000_000; "
        "print(resident_bytes() - before)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(answer.stdout) > 40_000_000


def test_a_trim_harms_nobody() -> None:
    kept = [bytes([number]) * 1000 for number in range(200)]
    trim_heap()
    assert [block[0] for block in kept] == list(range(200))
