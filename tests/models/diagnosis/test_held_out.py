"""What heads say of images that they did not learn from."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.clouds import clouds, contents

from models.diagnosis.held_out import (
    MIDDLE_L2,
    HeldOut,
    classes_with_enough,
    is_affordable,
    leave_each_out,
)


def test_a_label_that_was_turned_is_improbable_to_heads_that_did_not_see_it() -> None:
    embedding, targets = clouds(30)
    wrong = targets.copy()
    wrong[5] = 2
    found = leave_each_out(embedding, wrong, contents(90), np.arange(3))
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(90))
    assert found.of_label.argmin() == 5
    assert found.best[5] == 0


def test_they_say_what_scikit_learns_say_that_left_the_image_alone_out() -> None:
    """Up to the temperature, and to the images of its fold."""
    embedding, targets = clouds(25, classes=2, spread=1.5)
    found = leave_each_out(embedding, targets, contents(50), np.arange(2), search=False)
    mean, deviation = embedding.mean(0), embedding.std(0)
    scaled = (embedding - mean) / deviation
    logit = np.log(found.probabilities[:, 1] / found.probabilities[:, 0])
    reference = LogisticRegression(C=1 / (40 * MIDDLE_L2), tol=1e-10)
    others = np.stack([_without(reference, scaled, targets, i) for i in range(50)])
    assert np.corrcoef(others, logit)[0, 1] > 0.98


def _without(head: LogisticRegression, scaled: np.ndarray, targets: np.ndarray, left_out: int) -> float:
    kept = np.arange(len(targets)) != left_out
    return float(head.fit(scaled[kept], targets[kept]).decision_function(scaled[left_out : left_out + 1])[0])


def test_identical_images_are_left_out_together() -> None:
    embedding, targets = clouds(20, classes=2)
    twice = np.concatenate([embedding, embedding[:1]])
    found = leave_each_out(twice, np.append(targets, 0), [*contents(40), contents(40)[0]], np.arange(2))
    assert found.probabilities[0] == pytest.approx(found.probabilities[40])


def test_classes_with_few_different_images_take_no_part() -> None:
    embedding, targets = clouds(12)
    few = np.concatenate([targets, [3, 3, 3, 3, 3, 3]])
    groups = [*contents(36), *["same"] * 5, "other"]
    classes = classes_with_enough(few, groups, 5)
    assert classes.tolist() == [0, 1, 2]
    found = leave_each_out(np.concatenate([embedding, embedding[:6]]), few, groups, classes)
    assert found.rows.tolist() == list(range(36))
    assert found.probabilities.shape == (36, 3)


def test_columns_stand_for_the_classes_that_take_part() -> None:
    embedding, targets = clouds(12, spread=0.1)
    held_out = leave_each_out(embedding, 2 * targets + 1, contents(36), np.array([1, 3, 5]))
    assert held_out.classes[held_out.best].tolist() == (2 * targets + 1).tolist()
    assert isinstance(held_out, HeldOut)


def test_what_takes_too_long_is_known_before_it_is_begun() -> None:
    assert is_affordable(100_000, 1280, 39, 5e9)
    assert not is_affordable(100_000, 1280, 1000, 2e10)
    assert not is_affordable(1_000_000, 1280, 2, 2e10)
