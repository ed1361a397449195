"""The order in which a round measures."""

from benchmarks.rounds import order

TURNS = ["limit", "fovea-loop", "fovea", "triton", "litserve", "bare-fastapi"]


def test_every_round_has_all_turns_in_an_order_of_its_own_that_a_second_run_repeats() -> None:
    rounds = [order(number, TURNS) for number in range(5)]

    assert all(sorted(turns) == sorted(TURNS) for turns in rounds)
    assert rounds == [order(number, TURNS) for number in range(5)]
    for turn in TURNS:
        before = {turns[turns.index(turn) - 1] if turns.index(turn) else None for turns in rounds}
        assert len(before) > 1, f"{turn} follows {before} in all rounds"
