"""What a process gives back when asked."""

from system.memory import trim_heap


def test_a_trim_harms_nobody() -> None:
    kept = [bytes([number]) * 1000 for number in range(200)]
    trim_heap()
    assert [block[0] for block in kept] == list(range(200))
