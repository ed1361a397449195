"""What a card says of more images, and why where it says nothing."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from models.card.blocks import Paragraph, Plots
from models.findings.finding import Finding
from models.findings.learning_curve import find_learning_curve, told
from models.findings.subject import Subject
from models.training.learning_curve import CurvePoint, LearningCurve

MakeSubject = Callable[..., Subject]
POINTS = (CurvePoint(4, (0.6, 0.7)), CurvePoint(8, (0.7,)))


def text(finding: Finding) -> str:
    return " ".join(block.text for block in finding.blocks if isinstance(block, Paragraph))


@pytest.mark.parametrize(("test", "measured_on", "images"), [(0, "validation", 150), (90, "test", 90)])
def test_a_solved_head_has_a_curve(subject: MakeSubject, test: int, measured_on: str, images: int) -> None:
    found = find_learning_curve(subject(test=test))
    facts = json.loads(json.dumps(found.facts))
    assert (facts["measured_on"], facts["images"]) == (measured_on, images)
    assert [point["images_per_class"] for point in facts["points"]] == [5, 10, 20, 40]
    assert facts["interval"][0] <= facts["gain_of_twice_as_many"] <= facts["interval"][1]
    assert facts["told"] in text(found)
    (plots,) = [block for block in found.blocks if isinstance(block, Plots)]
    assert f"{images} {measured_on} images" in plots.caption
    assert "expected with 80" in plots.plots[0].alt


def test_whether_more_may_not_help_is_said_by_the_interval() -> None:
    sure = LearningCurve(POINTS, gain=0.021, low=0.012, high=0.034)
    assert told(sure) == "Twice as many images would add about 2.1 points of accuracy (95 % interval: 1.2 to 3.4)."
    assert "More of the same may not help" in told(dataclasses.replace(sure, low=0.0))


def test_without_a_curve_the_reason_is_told(subject: MakeSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "would flatter it" in text(find_learning_curve(subject(head=False)))
    assert "it takes 16 training images" in text(find_learning_curve(subject(train=45)))
    given = subject()
    bare = dataclasses.replace(given.embedded.train, embedding=None)
    embedded = dataclasses.replace(given.embedded, train=bare)
    assert "no features" in text(find_learning_curve(dataclasses.replace(given, embedded=embedded)))
    broken = dataclasses.replace(given.embedded.train, embedding=np.full((120, 12), np.nan, np.float32))
    embedded = dataclasses.replace(given.embedded, train=broken)
    assert "not all numbers" in text(find_learning_curve(dataclasses.replace(given, embedded=embedded)))
    monkeypatch.setattr("models.training.learning_curve.AFFORDABLE", 1)
    found = find_learning_curve(given)
    assert found.facts == {"reason": "120 images of 3 classes would take too long"}
