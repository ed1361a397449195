"""Metrics, against scikit-learn's and against cases worked out by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from models.training.metrics import (
    compute_metrics,
    expected_calibration_error,
    reliability_curve,
    softmax,
    wilson_interval,
)

LABELS = tuple("abcdefgh")


def random_case(seed: int, images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(LABELS), images)
    logits = rng.normal(size=(images, len(LABELS))).astype(np.float32)
    logits[np.arange(images), targets] += 1.5
    return logits, targets.astype(np.int64)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_scikit_learns(seed: int) -> None:
    logits, targets = random_case(seed)
    found = compute_metrics(logits, targets, LABELS, [str(i) for i in range(200)])
    predicted = logits.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(targets, predicted, labels=range(8))
    assert found.confusion_matrix == tuple(map(tuple, confusion_matrix(targets, predicted, labels=range(8))))
    assert [s.precision for s in found.classes] == pytest.approx(precision)
    assert [s.recall for s in found.classes] == pytest.approx(recall)
    assert [s.f1 for s in found.classes] == pytest.approx(f1)
    assert [s.support for s in found.classes] == support.tolist()
    assert found.macro_f1 == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert found.loss == pytest.approx(log_loss(targets, softmax(logits), labels=range(8)))
    assert found.top5_accuracy == pytest.approx(
        np.mean([t in np.argsort(-row)[:5] for row, t in zip(logits, targets, strict=True)])
    )


def test_a_class_without_images_has_no_recall() -> None:
    found = compute_metrics(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]), ("a", "b", "c"), ("1", "2"))
    assert (found.classes[2].recall, found.classes[2].f1, found.classes[2].support) == (None, None, 0)
    assert found.macro_f1 == 1.0
    assert found.top5_accuracy is None


def test_the_worst_mistakes_are_the_surest() -> None:
    logits = np.array([[5, 0], [0, 1], [3, 0], [0, 9]], dtype=np.float32)
    found = compute_metrics(logits, np.array([1, 0, 1, 1]), ("ant", "bee"), ("w", "x", "y", "z"))
    assert [(m.name, m.truth, m.predicted) for m in found.worst] == [
        ("w", "bee", "ant"),
        ("y", "bee", "ant"),
        ("x", "ant", "bee"),
    ]
    assert [m.index for m in found.worst] == [0, 2, 1]


def test_the_calibration_error_is_the_mean_gap() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    targets = np.array([0] * 5 + [1] * 5 + [0] * 6 + [1] * 4)
    assert expected_calibration_error(reliability_curve(probabilities, targets)) == pytest.approx(
        0.5 * 0.4 + 0.5 * 0.0
    )


def test_being_always_sure_and_always_right_is_calibrated() -> None:
    assert expected_calibration_error(reliability_curve(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2]))) == 0


def test_many_classes_list_their_confusions_only() -> None:
    labels = [str(i) for i in range(101)]
    details = compute_metrics(
        np.eye(101, dtype=np.float32)[[0, 1]], np.array([0, 7]), labels, ("x", "y")
    ).details()
    assert details["confused"] == [[7, 1, 1]]
    assert "confusion" not in details


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (1, 23), (144, 153), (1, 2), (9_999, 10_000)])
def test_the_interval_of_the_accuracy_is_scipys(successes: int, trials: int) -> None:
    reference = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_an_accuracy_of_1_is_not_certain() -> None:
    found = compute_metrics(np.eye(2, dtype=np.float32), np.array([0, 1]), ("a", "b"), ("1", "2"))
    assert found.accuracy == 1
    assert found.accuracy_interval == (pytest.approx(0.342, abs=1e-3), 1.0)
