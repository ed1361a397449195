"""What a process holds, and what it gives back when asked."""

import sys

import pytest

from system.memory import resident_bytes, trim_heap


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_process_sees_what_it_holds_grow() -> None:
    before = resident_bytes()
    held = bytes([1]) * 50_000_000
    assert resident_bytes() - before > 40_000_000
    assert len(held) == 50_000_000


def test_a_trim_harms_nobody() -> None:
    kept = [bytes([number]) * 1000 for number in range(200)]
    trim_heap()
    assert [block[0] for block in kept] == list(range(200))
