"""A learning curve: what it says of more images, held against what more images do."""

import numpy as np
import pytest

from models.training.learning_curve import (
    AFFORDABLE,
    FEW_DRAWS,
    FrozenFeatures,
    is_affordable,
    learning_curve,
)

CLASSES = 4


def drawn(images: int, *, distance: float, seed: int = 0) -> FrozenFeatures:
    """Points of 24 dimensions around four means, in turn."""
    rng = np.random.default_rng(seed)
    targets = np.arange(images) % CLASSES
    means = np.random.default_rng(99).normal(size=(CLASSES, 24)) * distance
    return FrozenFeatures((means[targets] + rng.normal(size=(images, 24))).astype(np.float32), targets)


def curve(images: int, distance: float, seed: int = 0):  # type: ignore[no-untyped-def]
    measured = drawn(600, distance=distance, seed=10_000 + seed)
    return learning_curve(drawn(images, distance=distance, seed=seed), measured, CLASSES, l2=0.01, seed=seed)


def test_it_has_a_point_for_each_halving_down_to_a_few_images_of_a_class() -> None:
    found = curve(256, 0.4)
    assert [point.images_per_class for point in found.points] == [4, 8, 16, 32, 64]
    assert [len(point.accuracies) for point in found.points] == [6, 6, 6, 6, 1]
    accuracies = [point.accuracy for point in found.points]
    assert accuracies[-1] > accuracies[0] + 0.05


def test_the_gain_of_twice_as_many_is_about_what_twice_as_many_bring() -> None:
    """Of 8 draws the interval may miss one."""
    measured = drawn(1500, distance=0.4, seed=1)
    inside = 0
    for seed in range(8):
        once, twice = (
            learning_curve(drawn(images, distance=0.4, seed=seed), measured, CLASSES, l2=0.3, seed=seed)
            for images in (128, 256)
        )
        assert once
        assert twice
        inside += once.low <= twice.points[-1].accuracy - once.points[-1].accuracy <= once.high
    assert inside >= 7


def test_where_nothing_is_left_to_learn_the_interval_holds_zero() -> None:
    found = curve(256, 6.0)
    assert found.points[-1].accuracy == 1.0
    assert found.more_may_not_help
    assert found.gain == pytest.approx(0, abs=1e-3)


def test_it_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert curve(128, 0.4) == curve(128, 0.4)
    assert curve(128, 0.4).gain != curve(128, 0.4, seed=1).gain


def test_images_too_few_to_be_halved_twice_have_none() -> None:
    assert curve(15 * CLASSES, 0.4) is None
    assert curve(16 * CLASSES, 0.4) is not None


def test_a_class_of_one_image_is_in_every_part() -> None:
    train = drawn(128, distance=0.4)
    keep = (train.targets != 3) | (np.arange(128) == 3)
    few = FrozenFeatures(train.features[keep], train.targets[keep])
    found = learning_curve(few, drawn(100, distance=0.4, seed=5), CLASSES, l2=0.01, seed=0)
    assert found
    assert found.points[0].images_per_class == pytest.approx(97 / 16)


def test_much_work_is_done_with_fewer_draws_and_too_much_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.learning_curve.QUICK", 100)
    found = curve(128, 0.4)
    assert [len(point.accuracies) for point in found.points[:-1]] == [FEW_DRAWS] * 3
    assert is_affordable(10_000, 1000, 100)
    assert not is_affordable(10_001, 1000, int(AFFORDABLE / 1e7))
