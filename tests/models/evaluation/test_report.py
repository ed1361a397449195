"""What a report says in words: what can be concluded, and what cannot."""

import numpy as np
import pytest

from models.evaluation.comparison import Comparison, compare
from models.evaluation.report import conclude


def pairs(both: int, only_first: int, only_second: int, neither: int) -> Comparison:
    counts = [both, only_first, only_second, neither]
    first = np.repeat([True, True, False, False], counts)
    second = np.repeat([True, False, True, False], counts)
    found = compare(first, second)
    assert found is not None
    return found


def test_a_difference_that_chance_does_not_explain_is_concluded() -> None:
    assert conclude("m:2", "m:1", pairs(120, 20, 4, 9), pairs=1) == (
        "On images like these m:2 is right more often than m:1: of 153 images m:2 alone gets 20 right and m:1 "
        "alone 4. The difference lies between +4.3 and +17.0 points (95 % interval; McNemar's exact test: "
        "p = 0.0015)."
    )
    assert conclude("m:2", "m:1", pairs(100, 0, 40, 0), pairs=3).startswith(
        "On images like these m:1 is right more often than m:2"
    )


def test_a_difference_that_may_be_chance_is_not_and_equality_is_not_claimed() -> None:
    said = conclude("m:2", "m:1", pairs(140, 4, 2, 7), pairs=3)
    assert said.startswith("These images cannot tell which of m:2 and m:1 is right more often: of 153 images")
    assert "p = 0.69, corrected by Holm for 3 pairs" in said
    assert said.endswith("That is no proof that they are equally good.")


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (("m:1",), " But m:1 learnt from some of these images, which favours it."),
        (("m:1", "m:2"), " But both learnt from some of these images: of new ones this says little."),
    ],
)
def test_what_a_version_has_seen_is_said_beside_it(seen: tuple[str, ...], words: str) -> None:
    assert conclude("m:2", "m:1", pairs(10, 3, 1, 2), pairs=1, seen=seen).endswith(words)


def test_without_an_image_that_both_know_nothing_is_compared() -> None:
    assert conclude("a", "b", None, pairs=1) == (
        "a and b cannot be compared: there is no image whose class both know."
    )
