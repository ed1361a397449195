"""Served images beside those that a version was validated on: whether they differ, in what, in which direction.

Two-sample tests of each quantity (Kolmogorov and Smirnov) and of the mean embedding, with Bonferroni's correction:
arXiv 1810.11953. Of thousands of images any difference is significant, so that it has to be one that matters, too.
Plain Python, for gateways.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.drift.reference import EmbeddingReference, Quantity, Reference
from models.drift.significance import chi_square_p_value, ks_distance, ks_p_value
from models.drift.sketch import OtherBins, Sketch

# Of all tests together, where nothing differs.
LEVEL = 0.01
LEAST_DISTANCE = 0.1
# In spreads of the validation images.
LEAST_SHIFT = 0.2
FEWEST_IMAGES = 100


@dataclass(frozen=True)
class Compared:
    """One test. `distance` is 0 ... 1; the embedding's is that of the means in spreads of the validation images.

    `text` says what differs, in words; empty where nothing is said to.
    """

    name: str
    label: str | None
    distance: float
    p_value: float
    adjusted_p_value: float
    drifted: bool
    text: str


@dataclass(frozen=True)
class Comparison:
    images: int
    reference_images: int
    quantities: tuple[Compared, ...]
    embedding: Compared | None

    @property
    def drifted(self) -> tuple[Compared, ...]:
        every = (*self.quantities, *((self.embedding,) if self.embedding else ()))
        return tuple(each for each in every if each.drifted)

    @property
    def distance(self) -> float:
        """The greatest of the quantities'."""
        return max(each.distance for each in self.quantities)

    @property
    def is_of_frequencies(self) -> bool:
        """Whether classes come more or less often, and the network is as sure as before."""
        names = {each.name for each in self.drifted}
        return "probability" in names and not names & {"top_probability", "entropy"}


def compare(reference: Reference, served: Sketch) -> Comparison:
    """Raises OtherBins where the sketch is not one of the reference's bins; it needs at least one image."""
    if served.shape != reference.shape:
        raise OtherBins(f"a sketch of {served.shape} cannot be compared with a reference of {reference.shape}")
    tests = reference.comparisons
    quantities = tuple(
        _quantity(quantity, counts, tests)
        for quantity, counts in zip(reference.quantities, served.counts, strict=True)
    )
    embedding = None
    if reference.embedding:
        embedding = _embedding(reference.embedding, reference.images, served, tests)
    return Comparison(served.images, reference.images, quantities, embedding)


def _quantity(quantity: Quantity, served: Sequence[int], tests: int) -> Compared:
    before, now = sum(quantity.counts), sum(served)
    difference, place = ks_distance(quantity.counts, served)
    p_value = ks_p_value(difference, before, now)
    adjusted = min(1.0, p_value * tests)
    drifted = adjusted < LEVEL and abs(difference) >= LEAST_DISTANCE
    text = _words(quantity, served, difference, place) if drifted else ""
    return Compared(quantity.name, quantity.label, abs(difference), p_value, adjusted, drifted, text)


def _embedding(reference: EmbeddingReference, before: int, served: Sketch, tests: int) -> Compared:
    """The squared distance of the means over what chance makes of it on average is a sum of squared normal
    variables, weighted by the eigenvalues of the covariance; it is taken for a chi-squared variable of the same
    mean and variance over its degrees of freedom (Box 1954).
    """
    squared = sum(
        (total / served.images - mean) ** 2 for total, mean in zip(served.embedding, reference.mean, strict=True)
    )
    by_chance = reference.spread * (1 / before + 1 / served.images)
    p_value = chi_square_p_value(squared / by_chance, reference.directions)
    distance, adjusted = math.sqrt(squared / reference.spread), min(1.0, p_value * tests)
    drifted = adjusted < LEVEL and distance >= LEAST_SHIFT
    text = ""
    if drifted:
        text = (
            f"the embeddings lie elsewhere: their mean is {distance:.2f} of the validation images' spread from "
            "theirs"
        )
    return Compared("embedding", None, distance, p_value, adjusted, drifted, text)


def _words(quantity: Quantity, served: Sequence[int], difference: float, place: int) -> str:
    is_higher = difference < 0
    if quantity.name == "entropy":
        return (
            f"the probabilities are {'more' if is_higher else 'less'} evenly spread over the classes than before"
        )
    # The last bin has all that is more than its edge.
    edge = quantity.edges[min(place, len(quantity.edges) - 1)]
    after = quantity.edges.index(edge) + 1
    now, before = (sum(counts[after:]) / sum(counts) for counts in (served, quantity.counts))
    shares = f"{_percent(now)} have a probability above {edge:.3g}, not {_percent(before)}"
    if quantity.name == "top_probability":
        return f"the best answers are {'surer' if is_higher else 'less sure'} than before: {shares}"
    return f"{'more' if is_higher else 'less'} {quantity.label} than among the validation images: {shares}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
