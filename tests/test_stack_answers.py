"""How the stack test tells an answer that changed from one that did not."""

from typing import Any

import pytest
from stack.answers import Answers

BEFORE = {"7": 0.9, "1": 0.07, "9": 0.03}


def answer(probabilities: dict[str, float], version: int = 1) -> dict[str, Any]:
    ranked = sorted(probabilities, key=lambda label: -probabilities[label])
    classes = [{"label": label, "probability": probabilities[label]} for label in ranked]
    return {"version": version, "predictions": [{"classes": classes}]}


@pytest.fixture
def answers() -> Answers:
    answers = Answers()
    assert answers.compare("digit-1-0.png", answer(BEFORE)) == "first"
    return answers


def test_the_same_again_is_the_same_whether_or_not_it_is_right(answers: Answers) -> None:
    assert answers.compare("digit-1-0.png", answer(BEFORE)) == "same"
    assert answers.compare("digit-1-0.png", answer({"7": 0.9004, "1": 0.0697, "9": 0.0299})) == "same"
    assert answers.different == []


@pytest.mark.parametrize(
    "now",
    [
        {"1": 0.9, "7": 0.07, "9": 0.03},
        {"7": 0.89, "1": 0.08, "9": 0.03},
        {"7": 0.9, "1": 0.07, "8": 0.03},
        {"7": 0.9, "1": 0.07},
    ],
    ids=["another label", "another probability", "another class", "fewer classes"],
)
def test_what_is_not_what_it_was_is_noted_even_if_it_is_right(answers: Answers, now: dict[str, float]) -> None:
    assert answers.compare("digit-1-0.png", answer(now)) == "different"
    assert len(answers.different) == 1
    assert "digit-1-0.png by version 1" in answers.different[0]


def test_another_version_is_held_to_its_own_first_answer(answers: Answers) -> None:
    other = answer({"1": 0.8, "7": 0.2}, version=2)
    assert answers.compare("digit-1-0.png", other) == "first"
    assert answers.compare("digit-1-0.png", other) == "same"
    assert answers.versions() == {1, 2}
