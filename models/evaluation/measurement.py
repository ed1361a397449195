"""How good a version's answers on labelled images are. Knows NumPy, and neither images nor a network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.metrics import (
    ClassMetrics,
    ReliabilityBin,
    class_metrics,
    expected_calibration_error,
    reliability_bins,
    wilson_interval,
)

LISTED_MISTAKES = 24
LISTED_PAIRS = 50
# A float32 probability below it has lost digits, or is 0: it counts as this much, for its logarithm is finite.
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)

Indices = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What a version answered on n images, each array [n].

    `truth` and `predicted` are class indices; truth is -1 where the version does not know the image's class, and
    predicted -1 where the image could not be classified. `probability` is that of the answer, `of_truth` that of
    the true class. `rank` counts the classes before the true one, by probability, then by index: the answer is
    right where it is 0. `brier` is the sum over the classes of (probability - truth) ** 2. Where there is no truth
    or no answer, what depends on it says nothing.
    """

    truth: Indices
    predicted: Indices
    probability: Reals
    of_truth: Reals
    rank: Indices
    brier: Reals

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def is_measured(self) -> NDArray[np.bool_]:
        """Whose class is known and which were classified: those that every figure is of."""
        found: NDArray[np.bool_] = (self.truth >= 0) & (self.predicted >= 0)
        return found

    @property
    def is_right(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.is_measured & (self.predicted == self.truth)
        return found


@dataclass(frozen=True)
class ConfusedPair:
    """So many images of `truth` were taken for `predicted`."""

    truth: str
    predicted: str
    images: int


@dataclass(frozen=True)
class Mistake:
    """A wrong answer; `index` is the image's place among the answers, `of_truth` what the true class got."""

    index: int
    truth: str
    predicted: str
    probability: float
    of_truth: float


@dataclass(frozen=True)
class Measurement:
    """On `images` images.

    `accuracy_interval` is Wilson's, at 95 %. `top5_accuracy` is None with five classes or fewer. `macro_f1` is the
    mean over the classes that have images. `loss` is the mean negative log-likelihood in nats, `brier` the mean
    Brier score over all classes, from 0 to 2 (Brier 1950), `calibration_error` the expected calibration error in
    15 equal bins of confidence. `baseline_accuracy` is that of always answering the most frequent class. `classes`
    are those that occur as truth or as answer, in the version's order; `confusion[i][j]` counts images of the i-th
    of them that were taken for the j-th. `confused` are the pairs confused most often, `mistakes` the wrong
    answers of the highest probability.
    """

    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    top5_accuracy: float | None
    macro_f1: float
    loss: float
    brier: float
    calibration_error: float
    baseline_accuracy: float
    reliability: tuple[ReliabilityBin, ...]
    classes: tuple[ClassMetrics, ...]
    confusion: NDArray[np.int64]
    confused: tuple[ConfusedPair, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def right(self) -> int:
        return int(np.trace(self.confusion))


def measure(answers: Answers, labels: Sequence[str]) -> Measurement | None:
    """Of the images that can be measured; None where there are none. `labels` are the version's, by class
    index."""
    measured = np.flatnonzero(answers.is_measured)
    if not len(measured):
        return None
    truth, predicted = answers.truth[measured], answers.predicted[measured]
    right = truth == predicted
    occurring = np.union1d(truth, predicted)
    names = [labels[i] for i in occurring]
    confusion = np.zeros((len(occurring), len(occurring)), np.int64)
    np.add.at(confusion, (np.searchsorted(occurring, truth), np.searchsorted(occurring, predicted)), 1)
    classes = tuple(class_metrics(name, i, confusion) for i, name in enumerate(names))
    reliability = reliability_bins(answers.probability[measured], right)
    return Measurement(
        images=len(measured),
        accuracy=float(right.mean()),
        accuracy_interval=wilson_interval(int(right.sum()), len(measured)),
        top5_accuracy=float((answers.rank[measured] < 5).mean()) if len(labels) > 5 else None,
        macro_f1=float(np.mean([of_class.f1 for of_class in classes if of_class.f1 is not None])),
        loss=float(-np.log(answers.of_truth[measured].clip(min=LEAST_PROBABILITY)).mean()),
        brier=float(answers.brier[measured].mean()),
        calibration_error=expected_calibration_error(reliability),
        baseline_accuracy=float(confusion.sum(axis=1).max() / len(measured)),
        reliability=reliability,
        classes=classes,
        confusion=confusion,
        confused=_confused(confusion, names),
        mistakes=_mistakes(answers, labels),
    )


def _confused(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[ConfusedPair, ...]:
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED_PAIRS]
    pairs = (divmod(int(place), len(names)) for place in order)
    return tuple(ConfusedPair(names[t], names[p], int(wrong[t, p])) for t, p in pairs if wrong[t, p])


def _mistakes(answers: Answers, labels: Sequence[str]) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(answers.is_measured & ~answers.is_right)
    surest = wrong[np.argsort(-answers.probability[wrong], kind="stable")][:LISTED_MISTAKES]
    return tuple(
        Mistake(
            int(i),
            labels[answers.truth[i]],
            labels[answers.predicted[i]],
            float(answers.probability[i]),
            float(answers.of_truth[i]),
        )
        for i in surest
    )
