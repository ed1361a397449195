"""Images that a head learns nothing from: what they say, the others say already.

What an image adds to the gradient of a linear head is its error, probabilities less truth, times its features;
at the optimum the head is the sum of these (Yeh et al. 2018, arXiv 1811.09720): without error, no influence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.diagnosis.held_out import HeldOut

# Of the error's length, 0 ... 1.41: EL2N of Paul, Ganguli and Dziugaite (2021, arXiv 2107.07075), here of heads
# that did not learn from the image. With two classes it is a probability of 98.6 % of the right one.
MOST_ERROR = 0.02


@dataclass(frozen=True)
class WithoutInfluence:
    """Rows of what was held out, int64 [w], those with the least error first; `errors` float64 [w]."""

    rows: NDArray[np.int64]
    errors: NDArray[np.float64]


def find_without_influence(held_out: HeldOut) -> WithoutInfluence:
    errors = held_out.probabilities.copy()
    errors[np.arange(len(held_out)), held_out.targets] -= 1
    lengths = np.linalg.norm(errors, axis=1)
    rows = np.flatnonzero(lengths <= MOST_ERROR)
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    return WithoutInfluence(rows, lengths[rows])
