"""Two versions on the same images: whether one is right more often than chance would make it. Knows no version.

A pair of answers is one of four: both right, only the first, only the second, neither. What is the same for both
says nothing about which is better, so McNemar's test looks at the other two alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.metrics import Z_95, wilson_interval

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """On `images` images; `difference` is the first's accuracy less the second's, with Newcombe's 95 % interval.

    `p_value` is that of McNemar's exact test, `mid_p_value` the same with half of what the observed table itself
    weighs. `adjusted_p_value` is `p_value` after Holm's correction for all pairs of the evaluation.
    """

    images: int
    both_right: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    difference_interval: tuple[float, float]
    p_value: float
    mid_p_value: float
    adjusted_p_value: float

    @property
    def is_significant(self) -> bool:
        return self.adjusted_p_value < SIGNIFICANCE


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Comparison | None:
    """Whether each answer is right, by the first and by the second version; None without an image. Uncorrected."""
    if not len(first):
        return None
    both, only_first = int((first & second).sum()), int((first & ~second).sum())
    only_second = int((~first & second).sum())
    neither = len(first) - both - only_first - only_second
    p_value = mcnemar_exact(only_first, only_second)
    return Comparison(
        images=len(first),
        both_right=both,
        only_first=only_first,
        only_second=only_second,
        neither=neither,
        difference=(only_first - only_second) / len(first),
        difference_interval=newcombe_interval(both, only_first, only_second, neither),
        p_value=p_value,
        mid_p_value=mcnemar_mid_p(only_first, only_second),
        adjusted_p_value=p_value,
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's test (1947) by the binomial distribution, without an approximation.

    If both versions were equally good, each image that only one gets right would be a coin's throw: p = 2 * P(X <=
    the smaller count), X binomial with n = both counts and 1/2, at most 1.
    """
    return min(1.0, 2 * _binomial_tail(min(only_first, only_second), only_first + only_second))


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """The mid-p value: the exact one, of which the observed table counts half.

    The exact test errs on the side of "cannot tell", the more the fewer images differ. This one is right about as
    often as it claims (Fagerland, Lydersen and Laake 2013, https://doi.org/10.1186/1471-2288-13-91).
    """
    fewer, images = min(only_first, only_second), only_first + only_second
    if not images:
        return 1.0
    if only_first == only_second:
        return 1.0 - 0.5 * _binomial(fewer, images)
    return 2 * _binomial_tail(fewer, images) - _binomial(fewer, images)


def newcombe_interval(
    both_right: int, only_first: int, only_second: int, neither: int, z: float = Z_95
) -> tuple[float, float]:
    """The interval of a difference of paired proportions by method 10 of Newcombe (1998), within [-1, 1].

    Wilson's intervals of both proportions are combined by squaring and adding, with the correlation phi of the
    two, corrected for continuity. Its coverage holds with few images and with proportions near 0 or 1, where the
    textbook's `d +- z * se` fails. Statistics in Medicine 17, 2635-2650.
    """
    images = both_right + only_first + only_second + neither
    first, second = both_right + only_first, both_right + only_second
    p1, p2 = first / images, second / images
    (low1, high1), (low2, high2) = wilson_interval(first, images, z), wilson_interval(second, images, z)
    phi = _correlation(both_right, only_first, only_second, neither)

    def combined(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    difference = p1 - p2
    return (
        max(-1.0, difference - combined(p1 - low1, high2 - p2)),
        min(1.0, difference + combined(p2 - low2, high1 - p1)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several tests (Holm 1979): the chance of even one false alarm among them stays at 5 %.

    The smallest is multiplied by the number of tests, the next by one less, and so on; none is below one before
    it.
    """
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = least
    return adjusted


def _correlation(both_right: int, only_first: int, only_second: int, neither: int) -> float:
    """Phi of the table, moved towards 0 by half an image where it is positive; 0 where a margin is empty."""
    margins = (
        (both_right + only_first) * (only_second + neither) * (both_right + only_second) * (only_first + neither)
    )
    if not margins:
        return 0.0
    images = both_right + only_first + only_second + neither
    product = both_right * neither - only_first * only_second
    corrected = max(product - images / 2, 0.0) if product > 0 else float(product)
    return corrected / math.sqrt(margins)


def _binomial_tail(successes: int, trials: int) -> float:
    """P(X <= successes) with probability 1/2; the largest terms first, until the others add nothing."""
    total = term = _binomial(successes, trials)
    for k in range(successes, 0, -1):
        term *= k / (trials - k + 1)
        if total + term == total:
            break
        total += term
    return total


def _binomial(successes: int, trials: int) -> float:
    """P(X = successes) with probability 1/2, by logarithms: 2 ** trials may be larger than any float."""
    logarithm = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(logarithm - trials * math.log(2))
