"""The paired comparison: against scipy, published examples, and what its interval promises."""

import numpy as np
import pytest
from scipy.stats import binomtest

from models.evaluation.comparison import compare, holm, mcnemar_exact, mcnemar_mid_p, newcombe_interval

# Both right, only the first, only the second, neither.
Table = tuple[int, int, int, int]


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 1), (0, 6), (1, 7), (3, 9), (5, 5), (40, 71), (500, 620), (9000, 9400)]
)
def test_the_exact_p_value_is_scipys_binomial_test(only_first: int, only_second: int) -> None:
    expected = binomtest(only_first, only_first + only_second, 0.5).pvalue
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected)
    assert mcnemar_exact(only_second, only_first) == pytest.approx(expected)


def test_p_values_of_a_published_example() -> None:
    """Airway hyper-responsiveness in 21 children (Bentur et al. 2009), in Fagerland, Lydersen and Laake 2013."""
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_mid_p(1, 7) == pytest.approx(0.0391, abs=5e-5)


def test_where_nothing_differs_nothing_is_told_apart() -> None:
    assert (mcnemar_exact(0, 0), mcnemar_mid_p(0, 0)) == (1.0, 1.0)
    assert mcnemar_exact(5, 5) == 1.0


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Fagerland, Lydersen and Laake 2014, table of intervals: Newcombe.
        ((1, 1, 7, 12), -0.507, -0.026),
        # Altman et al., Statistics with Confidence, 2nd edition, table 6.2.
        ((14, 5, 0, 22), 0.011, 0.226),
    ],
)
def test_the_interval_of_published_examples(table: Table, low: float, high: float) -> None:
    assert newcombe_interval(*table) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("table", [(5, 0, 0, 0), (0, 0, 0, 5), (0, 5, 0, 0), (0, 0, 1, 0), (90, 0, 0, 10)])
def test_the_interval_has_a_width_where_versions_are_alike_or_one_is_always_right(table: Table) -> None:
    low, high = newcombe_interval(*table)
    difference = (table[1] - table[2]) / sum(table)
    assert -1 <= low <= difference <= high <= 1
    assert high > low


def test_turning_the_versions_round_turns_the_interval_round() -> None:
    low, high = newcombe_interval(60, 12, 5, 23)
    assert newcombe_interval(60, 5, 12, 23) == pytest.approx((-high, -low))


@pytest.mark.parametrize("shares", [(0.85, 0.06, 0.02, 0.07), (0.5, 0.2, 0.1, 0.2), (0.9, 0.05, 0.05, 0.0)])
def test_the_interval_holds_the_difference_in_95_of_100_draws_or_a_little_more(shares: tuple[float, ...]) -> None:
    draws = np.random.default_rng(7).multinomial(60, shares, size=4000)
    difference = shares[1] - shares[2]
    held = [low <= difference <= high for low, high in (newcombe_interval(*map(int, draw)) for draw in draws)]
    assert 0.935 <= np.mean(held) <= 0.985


def test_the_test_seldom_raises_a_false_alarm() -> None:
    draws = np.random.default_rng(8).binomial(30, 0.5, size=2000)
    exact = np.mean([mcnemar_exact(b, 30 - b) < 0.05 for b in map(int, draws)])
    mid = np.mean([mcnemar_mid_p(b, 30 - b) < 0.05 for b in map(int, draws)])
    assert exact <= mid <= 0.065


def test_holms_correction_of_a_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_two_versions_are_compared_image_by_image() -> None:
    first = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    second = np.array([1, 1, 0, 0, 1, 0], dtype=bool)
    found = compare(first, second)
    assert found is not None
    assert (found.both_right, found.only_first, found.only_second, found.neither) == (2, 2, 1, 1)
    assert found.difference == pytest.approx(1 / 6)
    assert found.p_value == found.adjusted_p_value == 1.0
    assert not found.is_significant
    assert compare(first[:0], second[:0]) is None
