"""How many classes an answer must name to hold the truth with a stated probability: split conformal prediction.

A calibration image's score is how improbable its true class was taken to be. Of n of them, exchangeable with what
is classified later, the score of rank ceil((n + 1) * coverage) is exceeded with a probability of 1 - coverage at
the most (Vovk et al. 2005; Lei et al. 2018). Knows no NumPy: the gateway asks it, too.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from models.errors import CoverageUnavailable

CONFORMAL = "conformal"
METHOD = "lac"
# Of more scores than that every second rank is kept, or every third: sets become a little larger, never too small.
MOST_SCORES = 1000
# Nats to which a score is rounded, upwards.
RESOLUTION = 1e4


@dataclass(frozen=True)
class ConformalScores:
    """Of `images` that calibrate, scores in ascending order; those of some ranks where there are many."""

    images: int
    scores: tuple[float, ...]

    @classmethod
    def of(cls, scores: Iterable[float]) -> "ConformalScores":
        """Of every image's score, each a negative log-probability in nats, in any order."""
        ordered = sorted(math.ceil(score * RESOLUTION) / RESOLUTION for score in scores)
        images, kept = len(ordered), min(len(ordered), MOST_SCORES)
        return cls(images, tuple(ordered[-(-place * images // kept) - 1] for place in range(1, kept + 1)))

    @classmethod
    def from_findings(cls, findings: Mapping[str, Any] | None) -> "ConformalScores":
        """As a manifest has them. Raises CoverageUnavailable where it has none, or of another method."""
        facts = (findings or {}).get(CONFORMAL) or {}
        if facts.get("method") != METHOD or not facts.get("scores"):
            why = "it was not fine-tuned by this release, which measures that on the validation images"
            raise CoverageUnavailable(f"nothing is known of which classes hold the truth how often: {why}")
        return cls(int(facts["images"]), tuple(map(float, facts["scores"])))

    @property
    def highest_coverage(self) -> float:
        """The most that so many images can promise, rounded down to four digits."""
        return math.floor(10_000 * self.images / (self.images + 1)) / 10_000

    def threshold(self, coverage: float) -> float:
        """A class belongs to the set where its score is at most that; `coverage` is between 0 and 1.

        Raises CoverageUnavailable where there are too few images for so much.
        """
        # In fractions, for 100 * 0.99 is a little more than 99 with some numbers.
        rank = math.ceil((self.images + 1) * Fraction(repr(coverage)))
        if rank > self.images:
            needed = images_needed(coverage)
            raise CoverageUnavailable(
                f"a coverage of {coverage:g} takes at least {needed} calibration images, and it has "
                f"{self.images}, which are good for {self.highest_coverage:g}",
                images=self.images,
                needed=needed,
                highest_coverage=self.highest_coverage,
            )
        return self.scores[(rank - 1) * len(self.scores) // self.images]

    def to_facts(self) -> dict[str, Any]:
        return {"method": METHOD, "images": self.images, "scores": list(self.scores)}


def images_needed(coverage: float) -> int:
    """The fewest that can promise a coverage between 0 and 1: 19 for 0.95, 99 for 0.99."""
    share = Fraction(repr(coverage))
    return math.ceil(share / (1 - share))
