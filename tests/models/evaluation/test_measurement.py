"""The figures of an evaluation are scikit-learn's, and those of a fine-tune on the same images."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from models.evaluation.measurement import LEAST_PROBABILITY, Answers, measure
from models.training.metrics import compute_metrics, softmax

CLASSES = 7
LABELS = [f"class {i}" for i in range(CLASSES)]


def answers_of(probabilities: np.ndarray, truth: np.ndarray) -> Answers:
    """As a worker computes them image by image."""
    of_truth = probabilities[np.arange(len(truth)), truth]
    rank = [
        int((row > row[t]).sum() + (row[:t] == row[t]).sum()) for row, t in zip(probabilities, truth, strict=True)
    ]
    return Answers(
        truth,
        probabilities.argmax(axis=1),
        probabilities.max(axis=1),
        of_truth,
        np.array(rank),
        (probabilities**2).sum(axis=1) - 2 * of_truth + 1,
    )


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Logits that are often right, and truths of which one class has none."""
    draw = np.random.default_rng(4)
    truth = draw.integers(0, CLASSES - 1, 300)
    logits = draw.normal(size=(300, CLASSES)).astype(np.float32)
    logits[np.arange(300), truth] += 1.3
    return logits, truth


def test_the_figures_are_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, truth = drawn
    probabilities = softmax(logits)
    predicted = probabilities.argmax(axis=1)
    found = measure(answers_of(probabilities, truth), LABELS)
    assert found is not None
    every = list(range(CLASSES))
    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert found.top5_accuracy == pytest.approx(top_k_accuracy_score(truth, probabilities, k=5, labels=every))
    assert found.loss == pytest.approx(log_loss(truth, probabilities, labels=every))
    brier = brier_score_loss(truth, probabilities, labels=every, scale_by_half=False)
    assert found.brier == pytest.approx(brier)
    assert np.array_equal(found.confusion, confusion_matrix(truth, predicted, labels=every))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=every, zero_division=0
    )
    assert [c.precision for c in found.classes] == pytest.approx(precision)
    assert [c.support for c in found.classes] == support.tolist()
    assert [c.recall for c in found.classes[:-1]] == pytest.approx(recall[:-1])
    # The last has no images, so nobody knows.
    assert (found.classes[-1].recall, found.classes[-1].f1) == (None, None)
    assert found.macro_f1 == pytest.approx(f1[:-1].mean())
    assert found.baseline_accuracy == support.max() / 300


def test_they_are_those_of_a_fine_tune_on_the_same_images(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, truth = drawn
    found = measure(answers_of(softmax(logits), truth), LABELS)
    other = compute_metrics(logits, truth, LABELS, [str(i) for i in range(300)])
    assert found is not None
    assert found.accuracy == other.accuracy
    assert found.accuracy_interval == other.accuracy_interval
    assert found.top5_accuracy == other.top5_accuracy
    assert found.macro_f1 == pytest.approx(other.macro_f1)
    assert found.loss == pytest.approx(other.loss)
    assert found.calibration_error == pytest.approx(other.calibration_error)
    assert [(m.index, m.truth, m.predicted) for m in found.mistakes] == [
        (m.index, m.truth, m.predicted) for m in other.worst
    ]


def test_images_of_unknown_classes_and_broken_ones_are_in_no_figure(
    drawn: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, truth = drawn
    whole = answers_of(softmax(logits), truth)
    some = answers_of(softmax(logits[:200]), truth[:200])
    left_out = Answers(
        np.where(np.arange(300) < 250, whole.truth, -1),
        np.where((np.arange(300) < 200) | (np.arange(300) >= 250), whole.predicted, -1),
        whole.probability,
        whole.of_truth,
        whole.rank,
        whole.brier,
    )
    found, expected = measure(left_out, LABELS), measure(some, LABELS)
    assert found is not None
    assert expected is not None
    assert np.array_equal(found.confusion, expected.confusion)
    assert (found.images, found.accuracy, found.loss) == (200, expected.accuracy, expected.loss)
    assert found.mistakes == expected.mistakes


def test_classes_that_occur_nowhere_are_left_out_and_pairs_come_by_count() -> None:
    truth, predicted = np.array([5, 5, 5, 2, 2, 9]), np.array([5, 2, 2, 9, 9, 9])
    ones = np.ones(6)
    answers = Answers(truth, predicted, 0.9 * ones, 0.05 * ones, (truth != predicted).astype(np.int64), ones)
    found = measure(answers, [str(i) for i in range(1000)])
    assert found is not None
    assert [c.label for c in found.classes] == ["2", "5", "9"]
    assert found.confusion.tolist() == [[0, 0, 2], [2, 1, 0], [0, 0, 1]]
    assert [(p.truth, p.predicted, p.images) for p in found.confused] == [("2", "9", 2), ("5", "2", 2)]
    assert found.right == 2
    assert found.top5_accuracy == 1.0


def test_where_nothing_can_be_measured_nothing_is_said() -> None:
    none = np.array([], dtype=np.int64)
    assert (
        measure(Answers(none, none, none.astype(float), none.astype(float), none, none.astype(float)), []) is None
    )
    one = np.array([0])
    assert measure(Answers(one - 1, one, one + 0.5, one + 0.5, one, one + 0.5), ["a"]) is None


def test_a_probability_of_0_costs_much_and_not_infinitely_much() -> None:
    one = np.array([1])
    found = measure(Answers(one - 1, one, one + 0.0, one - 1.0, one, one + 1.0), ["a", "b"])
    assert found is not None
    assert found.loss == pytest.approx(-np.log(LEAST_PROBABILITY))
