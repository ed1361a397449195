"""What a parity gate compared and found: of a network that was exported, and of a user's file. Knows no torch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_SIZES = (1, 3, 8)
ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-3
# Softmax is computed twice in float32; its outputs are at most 1.
PROBABILITY_TOLERANCE = 1e-5


@dataclass(frozen=True)
class ParityReport:
    """What the gate compared and found.

    `agreement` is the fraction of answers with the same first class, over all batch sizes; `max_abs_diff` the
    largest difference between two logits; `beyond_tolerance` how many logits differ by more than
    `absolute_tolerance + relative_tolerance * |torch's logit|`; `max_probability_diff` the largest difference
    between the graph's probabilities and `softmax(logits / temperature)`.
    """

    images: int
    batch_sizes: tuple[int, ...]
    agreement: float
    max_abs_diff: float
    beyond_tolerance: int
    max_probability_diff: float
    absolute_tolerance: float = ABSOLUTE_TOLERANCE
    relative_tolerance: float = RELATIVE_TOLERANCE

    @property
    def passed(self) -> bool:
        # NaN compares false, so a graph or a network that gives NaN does not pass.
        return (
            self.agreement == 1.0
            and self.beyond_tolerance == 0
            and self.max_probability_diff <= PROBABILITY_TOLERANCE
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; a number that is not finite becomes null, since JSON has none such."""
        values = {**dataclasses.asdict(self), "batch_sizes": list(self.batch_sizes), "passed": self.passed}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))
