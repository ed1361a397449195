"""Temperature scaling: what undoes a wrong scale, and that a temperature is only kept where it helps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.calibrate import calibrate, fit_temperature
from models.training.metrics import compute_metrics, cross_entropy, softmax

LABELS = tuple("abcdefgh")


def random_case(seed: int, images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(LABELS), images)
    logits = rng.normal(size=(images, len(LABELS))).astype(np.float32)
    logits[np.arange(images), targets] += 1.5
    return logits, targets.astype(np.int64)


def calibrated_case(seed: int, images: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the very distribution that the targets are drawn from."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(images, classes))
    targets = (softmax(logits).cumsum(axis=1) > rng.random((images, 1))).argmax(axis=1)
    return logits.astype(np.float32), targets.astype(np.int64)


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
    found = compute_metrics(boast[2000:], targets[2000:], LABELS, [""] * 2000, temperature)
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


@pytest.mark.parametrize("scale", [0.4, 2.5])
@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_scale_is_undone(seed: int, scale: float) -> None:
    logits, targets = calibrated_case(seed, images=500, classes=10)
    found = calibrate((logits * scale).astype(np.float32), targets)
    assert found.applied
    assert found.temperature == found.fitted_temperature == pytest.approx(scale, rel=0.2)
    assert found.error_fitted < found.error_before


def test_of_few_images_that_are_calibrated_already_most_keep_their_temperature() -> None:
    kept = [not calibrate(*calibrated_case(seed, images=23)).applied for seed in range(200)]
    assert np.mean(kept) > 0.75


def test_fitted_temperatures_that_are_not_kept_would_have_made_unseen_images_worse() -> None:
    """The reason for cross-validation: with 23 images the fit is mostly noise."""
    logits, targets = calibrated_case(1000, images=20_000)
    rejected = [found for seed in range(60) if not (found := calibrate(*calibrated_case(seed, images=23))).applied]
    worse = [cross_entropy(logits / found.fitted_temperature, targets) for found in rejected]
    assert len(rejected) > 40
    assert np.mean(worse) > cross_entropy(logits, targets) + 0.005


def test_the_calibration_error_on_its_images_is_never_made_worse() -> None:
    for seed in range(100):
        logits, targets = calibrated_case(seed, images=40, classes=3)
        found = calibrate(logits, targets)
        metrics = compute_metrics(logits, targets, "abc", [""] * 40, found.temperature)
        assert metrics.calibration_error_uncalibrated == pytest.approx(found.error_before)
        assert metrics.calibration_error <= found.error_before
        assert found.applied or found.temperature == 1.0


def test_one_image_keeps_its_temperature() -> None:
    found = calibrate(np.array([[3, 0]], dtype=np.float32), np.array([0]))
    assert (found.temperature, found.loss_cross_validated) == (1.0, None)
