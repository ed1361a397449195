"""Whether a series of measurements stays where it is. Knows not what was measured.

Memory is noisy: heaps grow and are trimmed, requests come and go. Neither the slope of all pairs of points (Theil
and Sen) nor the middle of the beginning and of the end is moved by single points; a leak moves both.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import theilslopes

# Of a process' memory, between beginning and end.
FLAT = 0.05
# Steps of an allocator and of Python's own pools: in a process of 10 MB they would be more than its 5 %.
FLAT_BYTES = 2**20
THIRDS = 3
# More points than this say nothing that these do not, and their pairs would fill the memory.
MOST_POINTS = 1000


@dataclass(frozen=True)
class Trend:
    """The middle of the first and the last third, and the growth by the slope over the whole time."""

    first: float
    last: float
    growth: float
    per_hour: float

    @property
    def share(self) -> float:
        """The growth as a share of the beginning; where slope and thirds disagree, the smaller of the two."""
        return min(self.growth, self.last - self.first) / max(1.0, self.first)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Raises ValueError for fewer than six points, of which a third says nothing."""
    if len(values) < 2 * THIRDS:
        raise ValueError(f"{len(values)} measurements are too few for a trend; measure for longer")
    step = -(-len(values) // MOST_POINTS)
    slope = float(theilslopes(np.asarray(values[::step]), np.asarray(seconds[::step])).slope)
    third = len(values) // THIRDS
    return Trend(
        first=statistics.median(values[:third]),
        last=statistics.median(values[-third:]),
        growth=slope * (seconds[-1] - seconds[0]),
        per_hour=slope * 3600,
    )


def is_flat(seen: Trend) -> bool:
    """Whether memory, in bytes, stays within 5 %. What becomes less is no leak."""
    grown = min(seen.growth, seen.last - seen.first)
    return grown <= max(FLAT_BYTES, FLAT * seen.first)


def least(values: Sequence[float]) -> tuple[float, float]:
    """What is held at the least in the first and in the last third: a tenth of the points may be lower."""
    third = max(1, len(values) // THIRDS)
    first, last = sorted(values[:third]), sorted(values[-third:])
    return first[third // 10], last[third // 10]


def is_constant(values: Sequence[float], more: int) -> bool:
    """Whether what a load holds comes back to what it was whenever it lets go, but for `more`."""
    first, last = least(values)
    return last - first <= more
