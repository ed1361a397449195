"""How probable a distance is by chance alone. Plain Python, for gateways have neither numpy nor scipy."""

import math
from collections.abc import Sequence
from itertools import accumulate

TERMS = 100


def ks_distance(first: Sequence[int], second: Sequence[int]) -> tuple[float, int]:
    """The greatest difference of two distributions, counted in the same bins: `second`'s share at most there minus
    `first`'s, and after which bin.

    Its size is at most that of the images themselves, and less by no more than the largest share that a bin has of
    `first`.
    """
    of_first, of_second = sum(first), sum(second)
    differences = [
        b / of_second - a / of_first for a, b in zip(accumulate(first), accumulate(second), strict=True)
    ]
    greatest = max(range(len(differences)), key=lambda place: abs(differences[place]))
    return differences[greatest], greatest


def ks_p_value(distance: float, first: int, second: int) -> float:
    """How probable so large a distance is between so many images each of one distribution.

    Kolmogorov's limit, corrected for few images by Stephens (1970) as in Numerical Recipes, 14.3.3. Where values
    are tied, as all in a bin are, it is too high rather than too low.
    """
    root = math.sqrt(first * second / (first + second))
    scaled = (root + 0.12 + 0.11 / root) * abs(distance)
    if scaled < 0.2:
        return 1.0
    found = 2 * math.fsum((1 if n % 2 else -1) * math.exp(-2 * (n * scaled) ** 2) for n in range(1, TERMS + 1))
    return min(1.0, max(0.0, found))


def chi_square_p_value(ratio: float, freedom: float) -> float:
    """How probable a chi-squared variable over its degrees of freedom is at least `ratio`.

    By the series of the incomplete gamma function (Abramowitz and Stegun, 6.5.29).
    """
    shape, limit = freedom / 2, ratio * freedom / 2
    if limit <= 0:
        return 1.0
    if limit > 2 * shape + 200:  # less than 1e-60
        return 0.0
    term = total = 1 / shape
    divisor = shape
    while term > 1e-17 * total:
        divisor += 1
        term *= limit / divisor
        total += term
    below = total * math.exp(shape * math.log(limit) - limit - math.lgamma(shape))
    return min(1.0, max(0.0, 1 - below))
