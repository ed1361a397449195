"""What a fine-tune finds out about sets of classes, and on which images."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from models.card.blocks import Paragraph, Table
from models.conformal import ConformalScores
from models.findings.conformal import COVERAGES, cross_fitted, find_prediction_sets, measure
from models.findings.finding import Finding
from models.findings.subject import Subject
from models.prediction_sets import class_scores

MakeSubject = Callable[..., Subject]


def text(finding: Finding) -> str:
    return " ".join(block.text for block in finding.blocks if isinstance(block, Paragraph))


def test_validation_images_calibrate_and_are_measured_by_folds(subject: MakeSubject) -> None:
    given = subject()
    found = find_prediction_sets(given)
    json.dumps(found.facts)
    assert (found.name, found.facts["method"], found.facts["measured_on"]) == ("conformal", "lac", "validation")
    calibrated = ConformalScores.from_findings({found.name: found.facts})
    assert calibrated.images == 150
    assert [one["coverage"] for one in found.facts["reached"]] == list(COVERAGES)
    sizes = [one["mean_size"] for one in found.facts["reached"]]
    assert sizes == sorted(sizes)
    for one in found.facts["reached"]:
        assert one["reached"] >= one["coverage"] - 0.04
        assert one["lowest_label"] in ("ant", "bee", "wasp")
        assert one["lowest"] <= one["reached"]
    assert "Measured on the 150 validation images" in text(found)
    assert any(isinstance(block, Table) for block in found.blocks)


def test_test_images_measure_where_there_are_any(subject: MakeSubject) -> None:
    given = subject(test=300)
    found = find_prediction_sets(given)
    assert found.facts["measured_on"] == "test"
    for one in found.facts["reached"]:
        threshold = ConformalScores.from_findings({found.name: found.facts}).threshold(one["coverage"])
        logits, targets = given.embedded.test.logits, given.embedded.test.targets
        members = class_scores(logits) <= threshold
        members[np.arange(300), logits.argmax(axis=1)] = True
        assert one["reached"] == members[np.arange(300), targets].mean()
        assert one["images"] == 300
    assert "the 300 test images, which calibrated nothing" in text(found)


def test_an_epoch_that_the_images_chose_is_told(subject: MakeSubject) -> None:
    assert "chose the epoch" not in text(find_prediction_sets(subject()))
    assert "chose the epoch" in text(find_prediction_sets(subject(epochs=5)))


@pytest.mark.parametrize(("images", "measured"), [(1, []), (3, []), (12, [0.8, 0.9]), (30, [0.8, 0.9, 0.95])])
def test_of_few_images_what_they_are_good_for_is_measured(
    subject: MakeSubject, images: int, measured: list[float]
) -> None:
    found = find_prediction_sets(subject(validation=images))
    assert [one["coverage"] for one in found.facts["reached"]] == measured
    assert found.facts["highest_coverage"] == pytest.approx(images / (images + 1), abs=1e-4)
    if not measured:
        assert "takes more than 4 validation images" in text(found)


def test_logits_that_are_no_numbers_calibrate_nothing(subject: MakeSubject) -> None:
    given = subject()
    broken = dataclasses.replace(given.embedded.validation, logits=np.full((150, 3), np.nan, np.float32))
    embedded = dataclasses.replace(given.embedded, validation=broken)
    found = find_prediction_sets(dataclasses.replace(given, embedded=embedded))
    assert found.facts["images"] == 0
    assert "not all numbers" in text(found)


def test_folds_come_near_to_what_new_images_reach(subject: MakeSubject) -> None:
    given = subject(validation=300, test=3000)
    validation, test = given.embedded.validation, given.embedded.test
    scores, labels = class_scores(validation.logits), ("ant", "bee", "wasp")
    true = scores[np.arange(300), validation.targets]
    folded = cross_fitted(0.95, scores, validation.targets, labels, seed=0)
    new = measure(0.95, ConformalScores.of(true.tolist()), class_scores(test.logits), test.targets, labels)
    assert folded
    assert new
    assert folded.mean_size == pytest.approx(new.mean_size, abs=0.1)
    assert new.reached == pytest.approx(0.95, abs=0.03)
