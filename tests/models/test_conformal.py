"""What a coverage takes: thresholds by rank, refused where the images are too few, never too small by rounding."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from models.conformal import CONFORMAL, MOST_SCORES, RESOLUTION, ConformalScores, images_needed
from models.errors import CoverageUnavailable

COVERAGES = ("0.5", "0.8", "0.9", "0.95", "0.99", "0.999")


@given(st.lists(st.floats(0, 30), min_size=1, max_size=300), st.sampled_from(COVERAGES))
def test_a_threshold_is_the_score_of_its_rank_as_the_definition_has_it(scores: list[float], text: str) -> None:
    rank = math.ceil((len(scores) + 1) * Fraction(text))
    calibrated = ConformalScores.of(scores)
    if rank > len(scores):
        with pytest.raises(CoverageUnavailable):
            calibrated.threshold(float(text))
        return
    exact = sorted(scores)[rank - 1]
    assert exact <= calibrated.threshold(float(text)) <= exact + 1.001 / RESOLUTION


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999)])
def test_so_many_images_are_needed_and_one_fewer_will_not_do(coverage: float, needed: int) -> None:
    assert images_needed(coverage) == needed
    ConformalScores.of([1.0] * needed).threshold(coverage)
    with pytest.raises(CoverageUnavailable, match=f"takes at least {needed} calibration images") as why:
        ConformalScores.of([1.0] * (needed - 1)).threshold(coverage)
    assert (why.value.images, why.value.needed) == (needed - 1, needed)


@given(st.integers(1, 5000))
def test_the_highest_coverage_that_is_named_can_be_had(images: int) -> None:
    calibrated = ConformalScores(images, (0.0,) * min(images, MOST_SCORES))
    calibrated.threshold(calibrated.highest_coverage or 1e-4)


@given(st.integers(MOST_SCORES + 1, 20_000), st.floats(0.01, 0.9999))
def test_of_many_scores_a_thousand_are_kept_and_the_next_higher_one_counts(images: int, coverage: float) -> None:
    scores = [place / RESOLUTION for place in range(1, images + 1)]
    calibrated = ConformalScores.of(scores)
    rank = math.ceil((images + 1) * Fraction(repr(coverage)))
    if rank > images:
        return
    found = round(calibrated.threshold(coverage) * RESOLUTION)
    assert len(calibrated.scores) == MOST_SCORES
    assert rank <= found <= rank + images / MOST_SCORES + 1


def test_what_a_manifest_keeps_is_read_back() -> None:
    calibrated = ConformalScores.of([0.3, 0.1, 0.2])
    assert ConformalScores.from_findings({CONFORMAL: calibrated.to_facts()}) == calibrated


@pytest.mark.parametrize("findings", [None, {}, {CONFORMAL: {"images": 0}}, {CONFORMAL: {"method": "raps"}}])
def test_a_version_without_scores_has_no_sets(findings: dict[str, dict[str, object]] | None) -> None:
    with pytest.raises(CoverageUnavailable, match="was not fine-tuned by this release"):
        ConformalScores.from_findings(findings)


@pytest.mark.parametrize(("images", "coverage"), [(19, 0.95), (40, 0.9), (153, 0.95), (3000, 0.99)])
def test_the_coverage_is_reached_on_exchangeable_scores(images: int, coverage: float) -> None:
    """Over many draws of calibration and test images, within the error of a binomial.

    The test images of a draw share its threshold, so that each draw gives one.
    """
    rng = np.random.default_rng(images)
    draws = 2000
    held = 0
    for _ in range(draws):
        *scores, new = rng.exponential(size=images + 1)
        held += new <= ConformalScores.of(scores).threshold(coverage)
    assert held >= binom.ppf(1e-4, draws, coverage)
    # No more than the rank that is rounded up, and the kept scores, add.
    assert held <= binom.ppf(1 - 1e-4, draws, min(1.0, coverage + 1 / images + 1 / MOST_SCORES))
