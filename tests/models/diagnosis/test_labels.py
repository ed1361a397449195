"""Wrong labels, and classes that nothing tells apart."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.clouds import clouds, contents

from models.diagnosis.held_out import HeldOut, leave_each_out
from models.diagnosis.labels import area, find_overlaps, find_wrong_labels


def held_out(probabilities: np.ndarray, targets: np.ndarray) -> HeldOut:
    return HeldOut(np.arange(len(targets)), np.arange(probabilities.shape[1]), targets, probabilities)


def test_turned_labels_are_named_first_and_counted_as_wrong() -> None:
    embedding, targets = clouds(60, spread=0.6)
    turned = np.random.default_rng(3).choice(180, 9, replace=False)
    wrong = targets.copy()
    wrong[turned] = (wrong[turned] + 1) % 3
    judged = leave_each_out(embedding, wrong, contents(180), np.arange(3))
    found = find_wrong_labels(judged)
    assert set(turned) <= set(found.rows[:12].tolist())
    assert found.is_probable[:9].all()
    assert np.all(np.diff(judged.of_label[found.rows]) >= 0)


def test_where_all_is_right_no_label_is_wrong() -> None:
    embedding, targets = clouds(20, spread=0.05)
    found = find_wrong_labels(leave_each_out(embedding, targets, contents(60), np.arange(3)))
    assert (len(found.rows), len(found.is_probable)) == (0, 0)


def test_classes_that_are_one_cloud_are_not_told_apart_and_no_others() -> None:
    embedding, targets = clouds(60, classes=3, spread=0.3)
    torn = targets.copy()
    # Half of the last class is called a class of its own.
    torn[120:][np.random.default_rng(1).random(60) < 0.5] = 3
    found = find_overlaps(leave_each_out(embedding, torn, contents(180), np.arange(4)))
    assert [(pair.first, pair.second) for pair in found] == [(2, 3)]
    assert found[0].images == 60
    assert found[0].confused > 15
    assert 0.2 < found[0].separation < 0.75


def test_the_area_is_scikit_learns_with_ties_counted_half() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 6, 40) / 6, rng.integers(0, 5, 25) / 6
    truth = np.repeat([1, 0], [40, 25])
    expected = roc_auc_score(truth, np.concatenate([positive, negative]))
    assert area(positive, negative) == pytest.approx(expected)


def test_two_classes_of_which_one_is_never_answered_are_no_error() -> None:
    probabilities = np.tile([0.9, 0.1], (20, 1))
    targets = np.repeat([0, 1], [15, 5])
    judged = held_out(probabilities, targets)
    assert set(find_wrong_labels(judged).rows.tolist()) <= set(range(15, 20))
    assert [pair.separation for pair in find_overlaps(judged)] == [0.5]
