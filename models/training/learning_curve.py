"""How much more images would help: accuracy against images per class, of heads fitted on parts of the images.

The head on a frozen backbone is solved in milliseconds, so it is solved again on halves, quarters and eighths of
the training images, drawn several times, and measured on images that none of them has seen. The error falls by a
power of the number of images (Hestness et al. 2017), and that law says what twice as many would give.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.linear import WeightAndBias, fit_logistic_regression
from models.training.precision import one_thread
from models.training.seeds import derive_seed

# Images of each class, on average, in the smallest part; and how often the images are halved at the most.
FEWEST_PER_CLASS, MOST_HALVINGS = 4, 6
# Draws of a part where a fit takes milliseconds, and where it takes seconds.
DRAWS, FEW_DRAWS = 6, 2
# Multiply-adds of one look at all the data: up to the first all draws, up to the second few.
QUICK, AFFORDABLE = 2e7, 1e9
RESAMPLINGS = 400
# By how much the law misses beside all chance, as a standard deviation of the logarithm of the gain: measured on
# ten curves of which the next doubling was known (docs/decisions/0038).
MISS_OF_LAW = 0.3
# Of the power law.
EXPONENTS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True)
class CurvePoint:
    """`images_per_class` is an average; `accuracies` are those of the draws, the whole has one."""

    images_per_class: float
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        return math.fsum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class LearningCurve:
    """`gain` is what twice as many images would add to the accuracy, `low` to `high` its 95 % interval."""

    points: tuple[CurvePoint, ...]
    gain: float
    low: float
    high: float

    @property
    def more_may_not_help(self) -> bool:
        return self.low <= 0.0


@dataclass(frozen=True)
class FrozenFeatures:
    """Float32 `[n, D]` and their classes, int64 `[n]`."""

    features: NDArray[np.float32]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


def is_affordable(images: int, features: int, classes: int) -> bool:
    return images * features * classes <= AFFORDABLE


def learning_curve(
    train: FrozenFeatures, measured: FrozenFeatures, classes: int, *, l2: float, seed: int
) -> LearningCurve | None:
    """None where the images are too few to be halved twice."""
    counts = np.bincount(train.targets, minlength=classes)
    halvings = min(MOST_HALVINGS, int(math.log2(max(1.0, counts.mean() / FEWEST_PER_CLASS))))
    if halvings < 2:
        return None
    work = train.features.size * classes
    draws = DRAWS if work <= QUICK else FEW_DRAWS
    shares = [2.0**-halving for halving in range(halvings, -1, -1)]
    with one_thread():
        hits = _hits(train, measured, counts, classes, shares, draws, l2, seed)
    sizes = counts.mean() * np.array(shares)
    gains = _resampled_gains(hits, sizes, np.random.default_rng(derive_seed("learning curve", seed)))
    gain = float(_gains(np.array([[1 - of_size.mean() for of_size in hits]]), sizes).mean())
    low, high = (float(bound) for bound in np.quantile(gains, (0.025, 0.975)))
    points = tuple(
        CurvePoint(float(size), tuple(of_size.mean(axis=1).tolist()))
        for size, of_size in zip(sizes, hits, strict=True)
    )
    return LearningCurve(points, gain, low, high)


def _hits(
    train: FrozenFeatures,
    measured: FrozenFeatures,
    counts: NDArray[np.int64],
    classes: int,
    shares: Sequence[float],
    draws: int,
    l2: float,
    seed: int,
) -> list[NDArray[np.float64]]:
    """For each share float64 `[draws, measured images]`: 1 where a head of it is right. All of them have one draw.

    The parts of a draw are nested, and each fit begins where the smaller part's ended.
    """
    mean, deviation = train.features.mean(axis=0), train.features.std(axis=0)
    scale = np.maximum(deviation, max(1e-12, 0.01 * float(np.sqrt((deviation**2).mean()))))
    shown, looked_at = (
        torch.from_numpy(((part.features - mean) / scale).astype(np.float64)) for part in (train, measured)
    )
    targets = torch.from_numpy(train.targets)
    zeros = torch.zeros(classes, shown.shape[1], dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    hits: list[list[NDArray[np.float64]]] = [[] for _ in shares]
    for draw in range(draws):
        rank = _ranks(train.targets, counts, np.random.default_rng(derive_seed("draw", seed, draw)))
        found: WeightAndBias | None = None
        for place, share in enumerate(shares):
            if share == 1.0 and draw:
                continue
            rows = torch.from_numpy(np.flatnonzero(rank < np.maximum(1, np.rint(share * counts))[train.targets]))
            found = weight, bias = fit_logistic_regression(
                shown[rows],
                targets[rows],
                torch.full((len(rows),), 1 / len(rows), dtype=torch.float64),
                l2=l2,
                center=zeros,
                init=found,
            )
            answers = (looked_at @ weight.T + bias).argmax(dim=1).numpy()
            hits[place].append((answers == measured.targets).astype(np.float64))
    return [np.stack(of_share) for of_share in hits]


def _ranks(
    targets: NDArray[np.int64], counts: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """The place of each image in a random order of those of its class."""
    order = np.lexsort((generator.random(len(targets)), targets))
    rank = np.empty(len(targets), np.int64)
    rank[order] = np.arange(len(targets)) - (np.cumsum(counts) - counts)[targets[order]]
    return rank


def _resampled_gains(
    hits: Sequence[NDArray[np.float64]], sizes: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """The gain by other draws and other measured images, as a bootstrap makes them: `[2 * RESAMPLINGS]`.

    All images can be drawn in one way only; others of their number would differ as much as their halves do.
    """
    images = hits[0].shape[1]
    shares = generator.multinomial(images, np.full(images, 1 / images), RESAMPLINGS) / images
    errors = []
    for of_size in hits:
        by_draw = of_size @ shares.T
        drawn = generator.integers(0, len(of_size), (len(of_size), RESAMPLINGS))
        errors.append(1 - np.take_along_axis(by_draw, drawn, axis=0).mean(axis=0))
    errors[-1] += generator.normal(0, hits[-2].mean(axis=1).std(ddof=1), RESAMPLINGS)
    gains = _gains(np.stack(errors, axis=1), sizes).ravel()
    return gains * np.exp(generator.normal(0, MISS_OF_LAW, len(gains)))


def _gains(errors: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row of errors `[n, sizes]` what `floor + b * size ** -c` gives for twice the last size: `[2, n]`.

    First with the floor that fits best, 0 at the least, then without one: few points do not tell which of them is
    right, and the truth lies between. Least squares for each of `EXPONENTS`, of which the best counts.
    """
    best, gains = np.full((2, len(errors)), np.inf), np.zeros((2, len(errors)))
    for exponent in EXPONENTS:
        falling = (sizes / sizes[-1]) ** -exponent
        alone = (errors @ falling) / (falling @ falling)
        centred = falling - falling.mean()
        # All sizes are the same to an exponent of 0: then there is nothing but a floor.
        slope = (errors @ centred) / (centred @ centred) if exponent else np.zeros(len(errors))
        floor = errors.mean(axis=1) - slope * falling.mean()
        fits = ((np.maximum(floor, 0), np.where(floor < 0, alone, slope)), (np.zeros(len(errors)), alone))
        for place, (of_floor, of_slope) in enumerate(fits):
            squares = ((errors - of_floor[:, None] - of_slope[:, None] * falling) ** 2).sum(axis=1)
            gains[place] = np.where(squares < best[place], of_slope * (1 - 2.0**-exponent), gains[place])
            best[place] = np.minimum(best[place], squares)
    return gains
