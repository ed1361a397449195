"""Which labels are probably wrong, and which classes nobody could tell apart by these images.

By confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068), from what images are taken for by heads
that did not learn from them.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.diagnosis.held_out import HeldOut

# Below this separation two classes count as not told apart: of normal distributions of equal variance the best
# threshold would still be right in 68 of 100 cases.
LEAST_SEPARATION = 0.75
# The pairs of classes that are looked at, those first that are taken for each other most.
MOST_PAIRS = 200


@dataclass(frozen=True)
class WrongLabels:
    """Images of which another class is more probable than their own, the least probable labels first.

    `rows` int64 [w] are their places in what was held out, `is_probable` bool [w] tells which of them confident
    learning counts as wrong.
    """

    rows: NDArray[np.int64]
    is_probable: NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Two classes, as columns, of `images` images, of which `confused` are taken for the other of the two.

    `separation` is the chance that an image of one class gets a higher probability of it than one of the other
    class, the mean of both directions: A(i, j) of Hand and Till (2001), 0.5 where nothing tells them apart.
    """

    first: int
    second: int
    images: int
    confused: int
    separation: float


def import_confident_learning() -> None:
    """It takes most of a second, for it brings scikit-learn and pandas: to be had while images are decoded."""
    import cleanlab.filter  # noqa: F401


def find_wrong_labels(held_out: HeldOut) -> WrongLabels:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    with _without_warnings():
        probable = find_label_issues(held_out.targets, held_out.probabilities, n_jobs=1)
        quality = get_label_quality_scores(held_out.targets, held_out.probabilities)
    candidates = np.flatnonzero((held_out.best != held_out.targets) | probable)
    rows = candidates[np.argsort(quality[candidates], kind="stable")]
    return WrongLabels(rows, probable[rows])


def find_overlaps(held_out: HeldOut) -> list[Overlap]:
    """The pairs of classes that are not told apart, the least separated first."""
    from cleanlab.count import estimate_joint

    with _without_warnings():
        joint = estimate_joint(held_out.targets, held_out.probabilities)
    together = np.triu(joint + joint.T, 1)
    order = np.argsort(-together, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(place), len(joint)) for place in order if together.flat[place] > 0]
    found = [_overlap(held_out, first, second) for first, second in pairs]
    return sorted((pair for pair in found if pair.separation < LEAST_SEPARATION), key=lambda pair: pair.separation)


def _overlap(held_out: HeldOut, first: int, second: int) -> Overlap:
    ours, theirs = (np.flatnonzero(held_out.targets == column) for column in (first, second))
    best = held_out.best
    confused = int(np.sum(best[ours] == second) + np.sum(best[theirs] == first))
    of_first, of_second = held_out.probabilities[:, first], held_out.probabilities[:, second]
    separation = (area(of_first[ours], of_first[theirs]) + area(of_second[theirs], of_second[ours])) / 2
    return Overlap(first, second, len(ours) + len(theirs), confused, separation)


def area(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """The area under the ROC curve: how often a positive's score is above a negative's, ties counted half."""
    ordered = np.sort(negative)
    below, not_above = (np.searchsorted(ordered, positive, side=side).mean() for side in ("left", "right"))
    return float(below + not_above) / 2 / len(negative)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """cleanlab warns of classes that have little to be judged by; what is said of them is said elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
