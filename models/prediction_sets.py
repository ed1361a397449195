"""Which classes of each image hold the truth, by a threshold of `models.conformal`.

Least ambiguous set-valued classification (LAC; Sadinle, Lei and Wasserman 2019): every class that is probable
enough. Of all sets with a coverage these are the smallest on average.
"""

import numpy as np
from numpy.typing import NDArray


def class_scores(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of float32 `[n, classes]` the negative log-probability of each class, float64, in nats.

    At temperature 1: the served one is fitted on images that calibrate.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    return found


def prediction_sets(scores: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Of scores `[n, classes]` whether each class belongs to the image's set, which always has the best one."""
    members = scores <= threshold
    members[np.arange(len(scores)), scores.argmin(axis=1)] = True
    return members
