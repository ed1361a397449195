"""Figures, against scikit-learn's and against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from models.training.calibrate import fit_temperature
from models.training.evaluate import calibration_error, cross_entropy, measure, reliability, softmax

LABELS = tuple("abcdefgh")


def random_case(seed: int, images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(LABELS), images)
    logits = rng.normal(size=(images, len(LABELS))).astype(np.float32)
    logits[np.arange(images), targets] += 1.5
    return logits, targets.astype(np.int64)


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_scikit_learns(seed: int) -> None:
    logits, targets = random_case(seed)
    found = measure(logits, targets, LABELS, [str(i) for i in range(200)])
    predicted = logits.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(targets, predicted, labels=range(8))
    assert found.confusion == tuple(map(tuple, confusion_matrix(targets, predicted, labels=range(8))))
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
    found = measure(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]), ("a", "b", "c"), ("1", "2"))
    assert (found.classes[2].recall, found.classes[2].f1, found.classes[2].support) == (None, None, 0)
    assert found.macro_f1 == 1.0
    assert found.top5_accuracy is None


def test_the_worst_mistakes_are_the_surest() -> None:
    logits = np.array([[5, 0], [0, 1], [3, 0], [0, 9]], dtype=np.float32)
    found = measure(logits, np.array([1, 0, 1, 1]), ("ant", "bee"), ("w", "x", "y", "z"))
    assert [(m.name, m.truth, m.predicted) for m in found.worst] == [
        ("w", "bee", "ant"),
        ("y", "bee", "ant"),
        ("x", "ant", "bee"),
    ]
    assert [m.index for m in found.worst] == [0, 2, 1]


def test_the_calibration_error_is_the_mean_gap() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    targets = np.array([0] * 5 + [1] * 5 + [0] * 6 + [1] * 4)
    assert calibration_error(reliability(probabilities, targets)) == pytest.approx(0.5 * 0.4 + 0.5 * 0.0)


def test_being_always_sure_and_always_right_is_calibrated() -> None:
    assert calibration_error(reliability(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2]))) == 0


def test_many_classes_list_their_confusions_only() -> None:
    labels = [str(i) for i in range(101)]
    details = measure(np.eye(101, dtype=np.float32)[[0, 1]], np.array([0, 7]), labels, ("x", "y")).details()
    assert details["confused"] == [[7, 1, 1]]
    assert "confusion" not in details


@settings(max_examples=15, deadline=None)
@given(st.floats(0.2, 6.0), st.integers(0, 5))
def test_the_temperature_undoes_what_scaled_the_logits(scale: float, seed: int) -> None:
    logits, targets = random_case(seed, images=500)
    honest = fit_temperature(logits, targets)
    scaled = fit_temperature((logits * scale).astype(np.float32), targets)
    assert scaled / honest == pytest.approx(scale, rel=0.02)


def test_the_temperature_is_where_the_loss_is_least() -> None:
    logits, targets = random_case(1, images=5000)
    best = fit_temperature(logits * 3, targets)
    grid = {t: cross_entropy(logits * 3 / t, targets) for t in np.linspace(0.5, 6, 200)}
    assert cross_entropy(logits * 3 / best, targets) <= min(grid.values()) + 1e-5


def test_calibration_lowers_the_error_of_a_boaster() -> None:
    logits, targets = random_case(2, images=4000)
    boast = logits * 5
    temperature = fit_temperature(boast[:2000], targets[:2000])
    found = measure(boast[2000:], targets[2000:], LABELS, [""] * 2000, temperature)
    assert found.calibration_error < 0.03 < found.calibration_error_uncalibrated


def test_a_flawless_model_gets_a_finite_temperature() -> None:
    logits = np.eye(4, dtype=np.float32)[np.arange(40) % 4] * 3
    temperature = fit_temperature(logits, np.arange(40) % 4)
    assert 0.05 < temperature < 2
    assert softmax(logits / temperature).max() < 0.9999


def test_a_useless_model_is_made_unsure() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4)).astype(np.float32) * 5
    assert softmax(logits / fit_temperature(logits, rng.integers(0, 4, 500))).max() < 0.5
