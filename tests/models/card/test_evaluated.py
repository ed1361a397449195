"""An evaluation's card, of one version and of several, and what it says of strangers' names."""

import numpy as np
import pytest
from support.cards import Reading

from models.card.evaluated import evaluation_card
from models.card.reliability import reliability_diagram
from models.card.render import to_html, to_markdown
from models.evaluation.comparison import compare
from models.evaluation.measurement import Answers, measure
from models.evaluation.report import (
    DifferingImage,
    EvaluationReport,
    MeasuredImage,
    PairReport,
    VersionReport,
    VersionsAnswer,
    conclude,
)
from models.training.metrics import ReliabilityBin

HOSTILE = "<img src=x onerror=alert(1)>"
IMAGES = 40


def answers(labels: int, *, wrong: int, seed: int = 0) -> Answers:
    """The first `wrong` are taken for the next class."""
    truth = np.arange(IMAGES) % labels
    predicted = np.where(np.arange(IMAGES) < wrong, (truth + 1) % labels, truth)
    probability = np.random.default_rng(seed).uniform(0.5, 1, IMAGES)
    of_truth = np.where(predicted == truth, probability, 1 - probability)
    return Answers(truth, predicted, probability, of_truth, (predicted != truth).astype(np.int64), 1 - of_truth)


def report_of(labels: tuple[str, ...], *wrong: int, seen: int = 0) -> EvaluationReport:
    found = [answers(len(labels), wrong=count, seed=count) for count in wrong]
    versions = []
    for number, of_version in enumerate(found, 1):
        measurement = measure(of_version, labels)
        assert measurement is not None
        versions.append(
            VersionReport(
                name=f"bugs:{number}", model="bugs", version=number, reference=f"bugs@{HOSTILE}",
                architecture="lenet5", precision="float32", provider="CPUExecutionProvider",
                measurement=measurement, unknown={HOSTILE: 3}, absent=("wasp",), failed={}, seen=seen, gaps=(),
            )
        )  # fmt: skip
    images = tuple(
        MeasuredImage(f"{i}{HOSTILE}.png", labels[i % len(labels)], f"{i:064x}") for i in range(IMAGES + 3)
    )
    pair = []
    for second in range(1, len(found)):
        comparison = compare(found[0].is_right, found[second].is_right)
        words = conclude("bugs:1", f"bugs:{second + 1}", comparison, pairs=len(found) - 1)
        pair.append(PairReport("bugs:1", f"bugs:{second + 1}", comparison, words))
    said = [VersionsAnswer(labels[0], 0.5) for _ in found[1:]]
    differing = DifferingImage(images[0], (*said, VersionsAnswer(None, None)))
    return EvaluationReport(
        dataset="ds_1", dataset_name="Bugs & <b>beetles</b>", content_hash="ab" * 32, dataset_images=60,
        split="all", images=images, versions=tuple(versions), pairs=tuple(pair), differing=(differing,) if pair
        else (), differing_images=len(pair), created_at="2026-11-27T00:00:00Z",
    )  # fmt: skip


def picture(sha256: str) -> np.ndarray | None:
    return None if sha256.endswith("1") else np.zeros((32, 32, 3), np.uint8)


def test_of_one_version_the_headline_is_its_accuracy() -> None:
    page = evaluation_card(report_of(("ant", "bee"), 4), picture)
    markdown = to_markdown(page)
    assert "**90.0 % accuracy on 40 images**" in markdown
    assert "40 of the 43 images" in markdown
    assert "| ant | 0.900 | 0.900 | 0.900 | 20 |" in markdown
    assert "Of 1 of its classes there was no image: wasp." in markdown
    assert "3 images are not in its figures" in markdown
    reading = Reading(to_html(page))
    # One of the four has no picture any more.
    assert len(reading.all("img")) == 3
    assert {"By class", "What it confuses"} <= {section.heading for section in page.sections}


def test_of_several_versions_the_comparison_comes_first() -> None:
    report = report_of(("ant", "bee"), 2, 15, 2, seen=10)
    page = evaluation_card(report, picture)
    assert page.headline is None
    assert [section.heading for section in page.sections][:3] == ["Which is better", "Where they differ", "bugs:1"]
    markdown = to_markdown(page)
    assert "bugs:1 is right more often than bugs:2" in markdown
    assert "cannot tell which of bugs:1 and bugs:3" in markdown
    assert "corrected by Holm's method" in markdown
    assert "**bugs:2 learnt from 10 of these 43 images (23.3 %)" in markdown
    assert markdown.startswith("# 3 versions")


def test_strangers_names_are_text_and_nothing_else() -> None:
    page = evaluation_card(report_of((HOSTILE, "bee"), 4, 9), picture)
    html, markdown = to_html(page), to_markdown(page)
    assert HOSTILE not in html
    assert HOSTILE not in markdown
    assert not [image for image in Reading(html).all("img") if image.get("onerror")]
    assert Reading(html).text.count(HOSTILE) > 5


def test_of_many_classes_the_worst_are_shown() -> None:
    labels = tuple(f"class {i}" for i in range(30))
    html = to_html(evaluation_card(report_of(labels, 9), picture))
    assert "The 12 classes with the lowest F1, of 30." in html
    assert "All 30 classes" in html


def test_without_mistakes_it_says_so() -> None:
    markdown = to_markdown(evaluation_card(report_of(("ant", "bee"), 0), picture))
    assert "It made none on these images." in markdown
    assert "Nothing: every answer was right." in markdown


@pytest.mark.parametrize("title", ["m:1", '"><script>'])
def test_the_reliability_diagram_says_what_it_shows_and_has_the_pages_colours(title: str) -> None:
    plot = reliability_diagram([ReliabilityBin(0.9, 0.8, 30), ReliabilityBin(0.55, 0.5, 10)], 0.0875, title)
    assert "of 30 answers of 90.0 % 80.0 % are right" in plot.alt
    reading = Reading(plot.svg)
    assert not reading.all("script")
    circles = [(float(c["cx"] or 0), float(c["cy"] or 0), float(c["r"] or 0)) for c in reading.all("circle")]
    # The further right the more confident, the higher up the more accurate, the larger the more images.
    assert circles[0][0] > circles[1][0]
    assert circles[0][1] < circles[1][1]
    assert circles[0][2] > circles[1][2]
    colours = {value for _, attributes in reading.elements for name, value in attributes.items() if name in (
        "fill", "stroke")}  # fmt: skip
    assert all(str(colour).startswith("var(--") for colour in colours)
