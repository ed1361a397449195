"""Metrics of a classifier from its logits and the true classes. Knows NumPy and nothing else.

Logits are float32 [n, classes], targets int64 [n] in 0 ... classes - 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Targets = NDArray[np.int64]

# Equal intervals of confidence, as in Guo et al. 2017.
BINS = 15
LISTED_ERRORS = 24
# The standard normal's quantile for a two-sided interval of 95 %.
Z_95 = 1.959963984540054
LARGEST_CONFUSION_MATRIX = 100


@dataclass(frozen=True)
class ClassMetrics:
    """`precision` is 0 where nothing was predicted as this class; `recall` and `f1` are None without images."""

    label: str
    precision: float
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Misclassification:
    """An image that was taken for another class, with its probability; `index` is the image's row."""

    name: str
    truth: str
    predicted: str
    probability: float
    index: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose top probability fell into one of `BINS` equal intervals.

    `confidence` is the mean of those probabilities, `accuracy` how many of the answers are right.
    """

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Metrics:
    """Metrics on one split.

    `confusion_matrix[i][j]` counts images of class i that were taken for class j. `loss` is the mean cross-entropy
    in nats and `calibration_error` the expected calibration error, both of the probabilities as served;
    `_uncalibrated` is what they are at temperature 1. `macro_f1` is the mean over the classes that have images.
    `top5_accuracy` is None with five classes or fewer. `worst` are the wrong answers of the highest probability.
    """

    images: int
    accuracy: float
    top5_accuracy: float | None
    macro_f1: float
    loss: float
    calibration_error: float
    calibration_error_uncalibrated: float
    classes: tuple[ClassMetrics, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    worst: tuple[Misclassification, ...]
    reliability_curve: tuple[ReliabilityBin, ...]
    reliability_curve_uncalibrated: tuple[ReliabilityBin, ...]

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Where the accuracy on all such images lies with a confidence of 95 %: Wilson's interval."""
        return wilson_interval(round(self.accuracy * self.images), self.images)

    def summary(self) -> dict[str, Any]:
        """The metrics that are one number, for listings and job results."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "top5_accuracy": self.top5_accuracy,
            "macro_f1": self.macro_f1,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "calibration_error_uncalibrated": self.calibration_error_uncalibrated,
        }

    def details(self) -> dict[str, Any]:
        """What the manifest keeps beside the summary."""
        return {
            **self.summary(),
            "classes": [vars(metrics) for metrics in self.classes],
            **self._confusion(),
            "worst": [{k: v for k, v in vars(m).items() if k != "index"} for m in self.worst],
        }

    def _confusion(self) -> dict[str, Any]:
        """The whole matrix of a few classes; of many, the pairs that were confused: `[truth, answer, count]`."""
        if len(self.confusion_matrix) <= LARGEST_CONFUSION_MATRIX:
            return {"confusion": [list(row) for row in self.confusion_matrix]}
        return {
            "confused": [
                [t, p, n] for t, row in enumerate(self.confusion_matrix) for p, n in enumerate(row) if n and t != p
            ]
        }


def compute_metrics(
    logits: Logits, targets: Targets, labels: Sequence[str], names: Sequence[str], temperature: float = 1.0
) -> Metrics:
    """Metrics of the probabilities `softmax(logits / temperature)`; `names` are the images, row by row."""
    probabilities = softmax(logits / temperature)
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    classes = tuple(class_metrics(label, i, confusion) for i, label in enumerate(labels))
    present = [of_class.f1 for of_class in classes if of_class.f1 is not None]
    served, uncalibrated = reliability_curve(probabilities, targets), reliability_curve(softmax(logits), targets)
    return Metrics(
        images=len(targets),
        accuracy=float(np.mean(predicted == targets)),
        top5_accuracy=_top_k_accuracy(logits, targets, 5) if len(labels) > 5 else None,
        macro_f1=float(np.mean(present)),
        loss=cross_entropy(logits / temperature, targets),
        calibration_error=expected_calibration_error(served),
        calibration_error_uncalibrated=expected_calibration_error(uncalibrated),
        classes=classes,
        confusion_matrix=tuple(tuple(int(count) for count in row) for row in confusion),
        worst=_most_confident_errors(probabilities, predicted, targets, labels, names),
        reliability_curve=served,
        reliability_curve_uncalibrated=uncalibrated,
    )


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The score interval of a binomial proportion (Wilson 1927), within [0, 1].

    Unlike `p +- z * sqrt(p * (1 - p) / n)` it has a width where every trial succeeds, and keeps its coverage with
    few trials (Brown, Cai and DasGupta 2001).
    """
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    scale = 1 + z * z / trials
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows that sum to 1, computed in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    found: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return found


def cross_entropy(logits: NDArray[np.floating[Any]], targets: Targets) -> float:
    """The mean negative log-likelihood, in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(normaliser - shifted[np.arange(len(targets)), targets]))


def reliability_curve(probabilities: NDArray[np.float64], targets: Targets) -> tuple[ReliabilityBin, ...]:
    """Accuracy against confidence, by `BINS` equal intervals of confidence; empty ones are left out."""
    return reliability_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == targets)


def reliability_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """The same by each answer's probability, and whether it is right; both [n]."""
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        ReliabilityBin(float(confidence[inside].mean()), float(correct[inside].mean()), int(inside.sum()))
        for b in range(BINS)
        if (inside := bin_of == b).any()
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error (Naeini et al. 2015; Guo et al. 2017): the mean gap, weighted by count."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / total


def class_metrics(label: str, i: int, confusion: NDArray[np.int64]) -> ClassMetrics:
    """Of the class in row and column i of the confusion matrix."""
    correct, support, predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    precision = correct / predicted if predicted else 0.0
    if not support:
        return ClassMetrics(label, precision, None, None, 0)
    recall = correct / support
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return ClassMetrics(label, precision, recall, f1, support)


def _top_k_accuracy(logits: Logits, targets: Targets, k: int) -> float:
    best = np.argpartition(-logits, k - 1, axis=1)[:, :k]
    return float(np.mean((best == targets[:, None]).any(axis=1)))


def _most_confident_errors(
    probabilities: NDArray[np.float64],
    predicted: NDArray[np.int64],
    targets: Targets,
    labels: Sequence[str],
    names: Sequence[str],
) -> tuple[Misclassification, ...]:
    """The wrong answers of the highest probability, at most `LISTED_ERRORS`."""
    wrong = np.flatnonzero(predicted != targets)
    surest = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:LISTED_ERRORS]
    return tuple(
        Misclassification(
            names[i], labels[targets[i]], labels[predicted[i]], float(probabilities[i, predicted[i]]), int(i)
        )
        for i in surest
    )
