"""Distances and their probabilities, with scipy as the judge, and false alarms counted where nothing differs."""

import numpy as np
import pytest
from scipy import stats

from models.drift.significance import chi_square_p_value, ks_distance, ks_p_value


def binned(values: np.ndarray, edges: np.ndarray) -> list[int]:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1).tolist()


@pytest.mark.parametrize(("first", "second"), [(20, 100), (153, 100), (153, 5000), (900, 900)])
def test_with_an_edge_at_every_image_it_is_the_distance_of_scipy(first: int, second: int) -> None:
    rng = np.random.default_rng(first + second)
    for shift in (0.0, 0.2, 1.0):
        a, b = rng.normal(0, 1, first), rng.normal(shift, 1, second)
        edges = np.sort(np.concatenate([a, b]))
        distance, place = ks_distance(binned(a, edges), binned(b, edges))
        judged = stats.ks_2samp(a, b, method="asymp")
        assert abs(distance) == pytest.approx(judged.statistic)
        assert edges[place] == judged.statistic_location
        assert np.sign(distance) == -judged.statistic_sign


def test_in_bins_it_is_less_by_a_bin_at_most() -> None:
    rng = np.random.default_rng(3)
    for shift in np.linspace(-1, 1, 21):
        a, b = rng.normal(0, 1, 200), rng.normal(shift, 1.3, 300)
        edges = np.quantile(a, np.arange(1, 16) / 16)
        counts = binned(a, edges)
        distance, _ = ks_distance(counts, binned(b, edges))
        exact = stats.ks_2samp(a, b).statistic
        assert exact - max(counts) / 200 - 1e-9 <= abs(distance) <= exact + 1e-9


@pytest.mark.parametrize(("first", "second"), [(20, 100), (153, 100), (153, 5000), (900, 900)])
def test_the_p_value_is_the_exact_one_of_scipy_but_for_a_little(first: int, second: int) -> None:
    together = first * second // (first + second)
    for scaled in (0.6, 0.9, 1.2, 1.6, 2.0):
        distance = scaled / np.sqrt(together)
        exact = stats.kstwo.sf(distance, together)
        assert ks_p_value(distance, first, second) == pytest.approx(exact, rel=0.2, abs=1e-5)


def test_what_is_equal_is_as_probable_as_can_be_and_what_is_apart_is_not() -> None:
    assert ks_p_value(0.0, 100, 100) == 1.0
    assert ks_p_value(0.01, 20, 20) == 1.0
    assert ks_p_value(1.0, 100_000, 100_000) == 0.0


@pytest.mark.parametrize("freedom", [1.0, 2.0, 5.0, 12.5, 40.0])
def test_a_chi_squared_probability_is_that_of_scipy(freedom: float) -> None:
    for probability in (0.9, 0.5, 0.1, 0.01, 0.001, 1e-9):
        ratio = stats.chi2.isf(probability, freedom) / freedom
        assert chi_square_p_value(ratio, freedom) == pytest.approx(probability, rel=1e-5)
    assert chi_square_p_value(0.0, freedom) == 1.0
    assert chi_square_p_value(1e6, freedom) == 0.0


def test_no_more_than_the_level_are_false_alarms() -> None:
    rng = np.random.default_rng(5)
    edges = np.arange(1, 32) / 32
    p_values = []
    for _ in range(1000):
        a, b = rng.uniform(size=153), rng.uniform(size=400)
        distance, _ = ks_distance(binned(a, edges), binned(b, edges))
        p_values.append(ks_p_value(distance, 153, 400))
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(p_values) < level) <= level + 2 * np.sqrt(level * (1 - level) / 1000)
