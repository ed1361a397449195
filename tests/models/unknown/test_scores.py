"""Scores of how foreign an image is: against the textbook's formulas, and on what nobody should send them."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from models.unknown import fit
from models.unknown.fit import fit_mahalanobis, fit_nearest, spread
from models.unknown.scores import GeneralisedEntropy, Rows, normalised
from models.unknown.separation import auroc, fewest_images, threshold_of

Labelled = tuple[Rows, NDArray[np.int64]]


@pytest.fixture
def known() -> Labelled:
    """Sixty embeddings of eight numbers, of three classes."""
    draw = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), 20)
    values = draw.normal(size=(3, 8))[targets] + 0.3 * draw.normal(size=(60, 8))
    return values.astype(np.float32), targets


def test_the_distance_is_that_of_the_whole_shrunk_covariance(known: Labelled) -> None:
    values, targets = known
    asked = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    rows = normalised(values).astype(np.float64)
    means = np.stack([rows[targets == c].mean(axis=0) for c in range(3)])
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(rows - means[targets]).covariance_)
    away = normalised(asked)[:, None] - means
    expected = np.einsum("ncd,de,nce->nc", away, precision, away).min(axis=1)
    assert fit_mahalanobis(values, targets)(asked) == pytest.approx(expected, rel=1e-3)


def test_fewer_images_than_dimensions_give_the_same_as_the_covariance_itself() -> None:
    draw = np.random.default_rng(2)
    values, targets = draw.normal(size=(12, 40)).astype(np.float32), np.repeat([0, 1], 6)
    asked = draw.normal(size=(4, 40)).astype(np.float32)
    rows = normalised(values).astype(np.float64)
    rest = rows - np.stack([rows[targets == c].mean(axis=0) for c in (0, 1)])[targets]
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(rest).covariance_)
    away = normalised(asked)[:, None] - (rows - rest)[[0, 6]]
    expected = np.einsum("ncd,de,nce->nc", away, precision, away).min(axis=1)
    assert fit_mahalanobis(values, targets)(asked) == pytest.approx(expected, rel=1e-3)


def test_directions_beyond_the_limit_are_as_the_rest(known: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MOST_DIRECTIONS", 3)
    score = fit_mahalanobis(*known)
    assert score.directions.shape == (8, 3)
    assert auroc(score(known[0]), score(-known[0])) == 1


def test_the_nearest_image_of_itself_is_at_hand(known: Labelled) -> None:
    score = fit_nearest(*known)
    assert score(known[0]) == pytest.approx(0, abs=1e-3)
    assert score(-known[0]).min() > score(known[0]).max()


def test_what_has_no_length_or_no_variation_is_scored_all_the_same() -> None:
    nothing, targets = np.zeros((4, 6), np.float32), np.array([0, 0, 1, 1])
    alike = np.ones((4, 6), np.float32)
    for values in (nothing, alike):
        for score in (fit_mahalanobis(values, targets), fit_nearest(values, targets)):
            assert np.isfinite(score(np.vstack([nothing, alike, -alike]))).all()
    one = fit_mahalanobis(alike[:1], targets[:1])
    assert one(-alike)[0] > one(alike)[0]


def test_generalised_entropy_is_the_papers_and_takes_any_logits() -> None:
    logits = np.array([[2.0, 1.0, 0.0], [9.0, 0.0, 0.0], [1e4, -1e4, 0.0]], np.float32)
    shares = np.exp(logits[:2]) / np.exp(logits[:2]).sum(axis=1, keepdims=True)
    expected = (shares**0.1 * (1 - shares) ** 0.1).sum(axis=1)
    found = GeneralisedEntropy()(logits)
    assert found[:2] == pytest.approx(expected, rel=1e-5)
    assert found[0] > found[1] > found[2]
    assert GeneralisedEntropy()(np.zeros((2, 300), np.float32)) == pytest.approx(100 * (299 / 300**2) ** 0.1)


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    draw = np.random.default_rng(3)
    known, foreign = draw.integers(0, 9, 70).astype(float), draw.integers(3, 12, 30).astype(float)
    truth = np.repeat([0, 1], [70, 30])
    assert auroc(known, foreign) == pytest.approx(roc_auc_score(truth, np.concatenate([known, foreign])))
    assert auroc(known, foreign[:0]) is None


def test_of_new_images_the_promised_share_is_above_the_threshold() -> None:
    draw = np.random.default_rng(4)
    alarms = [(draw.normal(size=200) > threshold_of(draw.normal(size=40))).mean() for _ in range(400)]
    assert 0.03 < np.mean(alarms) <= 0.055
    assert (fewest_images(), fewest_images(0.01)) == (19, 99)
    assert threshold_of(np.array([3.0, 9.0, 5.0])) == 9


def test_of_many_images_each_class_keeps_its_share() -> None:
    targets = np.repeat([0, 1, 2], [600, 300, 100])
    assert np.bincount(targets[spread(targets, 100)]).tolist() == [60, 30, 10]
