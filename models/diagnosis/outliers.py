"""Images that are like none of their own class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.diagnosis.neighbours import Neighbours

# Of the modified z-score (Iglewicz and Hoaglin 1993), which a few outliers cannot move.
CUT = 3.5
# The median absolute deviation of a normal distribution, in standard deviations.
NORMAL_MAD = 0.6745
FEWEST_OF_A_CLASS = 10


@dataclass(frozen=True)
class Outliers:
    """Places of images int64 [o], the farthest first, with their modified z-scores float64 [o].

    `checked` is how many images are of a class that has enough of them.
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float64]
    checked: int


def find_outliers(neighbours: Neighbours, targets: NDArray[np.int64]) -> Outliers:
    """By the mean distance to the nearest of its class, beside what is usual in that class."""
    scores = np.zeros(len(targets))
    checked = 0
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        if len(members) < FEWEST_OF_A_CLASS:
            continue
        checked += len(members)
        distance = np.nanmean(neighbours.distance[members].astype(np.float64), axis=1)
        above = distance - np.median(distance)
        spread = np.median(np.abs(above))
        if spread > 0:
            scores[members] = NORMAL_MAD * above / spread
    places = np.flatnonzero(scores > CUT)
    places = places[np.argsort(-scores[places], kind="stable")]
    return Outliers(places, scores[places], checked)
