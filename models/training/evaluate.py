"""How good a model is, in numbers, from its logits and the true classes. Knows NumPy and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Targets = NDArray[np.int64]

BINS = 15
WORST = 24
LARGEST_MATRIX = 100


@dataclass(frozen=True)
class ClassScore:
    """`precision` is 0 where nothing was predicted as this class; `recall` and `f1` are None without images."""

    label: str
    precision: float
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Mistake:
    name: str
    truth: str
    predicted: str
    probability: float
    index: int


@dataclass(frozen=True)
class Bin:
    """Images whose top probability fell into one of `BINS` equal intervals."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """One split's figures. `confusion[i][j]` counts images of class i that were taken for class j."""

    images: int
    accuracy: float
    top5_accuracy: float | None
    macro_f1: float
    loss: float
    calibration_error: float
    calibration_error_uncalibrated: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    worst: tuple[Mistake, ...]
    reliability: tuple[Bin, ...]
    reliability_uncalibrated: tuple[Bin, ...]

    def summary(self) -> dict[str, Any]:
        """The single figures, for listings and job results."""
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
            "classes": [vars(score) for score in self.classes],
            **self._confusion(),
            "worst": [{k: v for k, v in vars(m).items() if k != "index"} for m in self.worst],
        }

    def _confusion(self) -> dict[str, Any]:
        """The whole matrix of a few classes; of many, the pairs that were confused: `[truth, answer, count]`."""
        if len(self.confusion) <= LARGEST_MATRIX:
            return {"confusion": [list(row) for row in self.confusion]}
        return {
            "confused": [
                [t, p, n] for t, row in enumerate(self.confusion) for p, n in enumerate(row) if n and t != p
            ]
        }


def measure(
    logits: Logits, targets: Targets, labels: Sequence[str], names: Sequence[str], temperature: float = 1.0
) -> Evaluation:
    """The figures of one split; probabilities are those of `logits / temperature`, as served."""
    probabilities = softmax(logits / temperature)
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    classes = tuple(_class_score(label, i, confusion) for i, label in enumerate(labels))
    present = [score.f1 for score in classes if score.f1 is not None]
    calibrated, raw = reliability(probabilities, targets), reliability(softmax(logits), targets)
    return Evaluation(
        images=len(targets),
        accuracy=float(np.mean(predicted == targets)),
        top5_accuracy=_top(logits, targets, 5) if len(labels) > 5 else None,
        macro_f1=float(np.mean(present)),
        loss=cross_entropy(logits / temperature, targets),
        calibration_error=calibration_error(calibrated),
        calibration_error_uncalibrated=calibration_error(raw),
        classes=classes,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        worst=_worst(probabilities, predicted, targets, labels, names),
        reliability=calibrated,
        reliability_uncalibrated=raw,
    )


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    found: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return found


def cross_entropy(logits: NDArray[np.floating[Any]], targets: Targets) -> float:
    """The mean negative log-likelihood, in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(normaliser - shifted[np.arange(len(targets)), targets]))


def reliability(probabilities: NDArray[np.float64], targets: Targets) -> tuple[Bin, ...]:
    """How often the model is right when it is so sure; empty bins are left out."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    where = np.minimum((sure * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(float(sure[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for b in range(BINS)
        if (inside := where == b).any()
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error (Naeini et al. 2015; Guo et al. 2017): the mean gap, weighted by count."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / total


def _class_score(label: str, i: int, confusion: NDArray[np.int64]) -> ClassScore:
    right, support, predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    precision = right / predicted if predicted else 0.0
    if not support:
        return ClassScore(label, precision, None, None, 0)
    recall = right / support
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return ClassScore(label, precision, recall, f1, support)


def _top(logits: Logits, targets: Targets, k: int) -> float:
    best = np.argpartition(-logits, k - 1, axis=1)[:, :k]
    return float(np.mean((best == targets[:, None]).any(axis=1)))


def _worst(
    probabilities: NDArray[np.float64],
    predicted: NDArray[np.int64],
    targets: Targets,
    labels: Sequence[str],
    names: Sequence[str],
) -> tuple[Mistake, ...]:
    """The mistakes that the model was surest of."""
    wrong = np.flatnonzero(predicted != targets)
    surest = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:WORST]
    return tuple(
        Mistake(names[i], labels[targets[i]], labels[predicted[i]], float(probabilities[i, predicted[i]]), int(i))
        for i in surest
    )
