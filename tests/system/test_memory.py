"""What a process gives back when asked, and who goes first."""

import sys
from pathlib import Path

import pytest

from system.memory import first_when_memory_is_short, trim_heap


def test_a_trim_harms_nobody() -> None:
    kept = [bytes([number]) * 1000 for number in range(200)]
    trim_heap()
    assert [block[0] for block in kept] == list(range(200))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who goes first")
def test_who_offered_to_go_first_takes_it_back() -> None:
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text()
    with first_when_memory_is_short():
        assert score.read_text().strip() == "1000"
    assert score.read_text() == before
