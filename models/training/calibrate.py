"""Temperature scaling (Guo et al. 2017): one number that makes a model as sure as it is right.

It divides the logits, so it changes no answer, only the probabilities. Knows NumPy and nothing else.
"""

import numpy as np
from numpy.typing import NDArray

from models.training.evaluate import cross_entropy

LOWEST, HIGHEST = 0.05, 20.0
GOLDEN = (5**0.5 - 1) / 2


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature with the least cross-entropy on these images, within [0.05, 20].

    The cross-entropy is convex in 1 / temperature, so a golden-section search over it finds the one minimum. On
    images that are all classified right the optimum would be "infinitely sure"; one pseudo-image whose truth is
    spread evenly over the classes keeps it finite, and fades as images are added.
    """

    def cost(inverse: float) -> float:
        scaled = logits.astype(np.float64) * inverse
        evenly = cross_entropy_with_even_truth(scaled)
        return (len(targets) * cross_entropy(scaled, targets) + evenly) / (len(targets) + 1)

    low, high = 1 / HIGHEST, 1 / LOWEST
    while high - low > 1e-4 * low:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return float(2 / (low + high))


def cross_entropy_with_even_truth(logits: NDArray[np.float64]) -> float:
    """The mean cross-entropy, in nats, if every class were equally true of every image."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted.mean(axis=1)))
