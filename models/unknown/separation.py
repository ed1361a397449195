"""How well a score tells foreign images from known ones, and from which score on an image is unknown."""

import math

import numpy as np
from numpy.typing import NDArray

FALSE_ALARM_RATE = 0.05
# Kinds of images that show none of the classes.
HELD_OUT, BACKGROUND, NONE = "held_out_classes", "background", "none"


def auroc(known: NDArray[np.floating], foreign: NDArray[np.floating]) -> float | None:
    """How likely a foreign image has a higher score than a known one, ties half; None without either of them.

    The area under the receiver operating characteristic (Hanley and McNeil, 1982).
    """
    if not len(known) or not len(foreign):
        return None
    ordered = np.sort(known)
    below, up_to = (np.searchsorted(ordered, foreign, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(known)))


def threshold_of(scores: NDArray[np.floating], rate: float = FALSE_ALARM_RATE) -> float:
    """What of new images like the n >= 1 scored ones a share of at most `rate` exceeds in expectation.

    It is the ceil((n + 1) (1 - rate))-th of them in their order (Vovk, Gammerman and Shafer, 2005). Of fewer than
    `fewest_images` it is the largest, which promises 1 / (n + 1) only.
    """
    place = math.ceil(round((len(scores) + 1) * (1 - rate), 9))
    return float(np.sort(scores)[min(place, len(scores)) - 1])


def fewest_images(rate: float = FALSE_ALARM_RATE) -> int:
    """How many scores a threshold takes that keeps to `rate`: 19 for 5 %."""
    return math.ceil(round(1 / rate - 1, 9))


def share_above(scores: NDArray[np.floating], threshold: float) -> float | None:
    return float((scores > threshold).mean()) if len(scores) else None
