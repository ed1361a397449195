"""The card of a fine-tune stands alone, shows what it should, and runs nothing that a stranger wrote."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.cards import REGRESSION, Reading, manifest_of, metrics_of

from models.artifact import Manifest
from models.card.finetuned import EarlierVersion
from models.card.version import PLACE
from models.training.metrics import compute_metrics

Card = Callable[..., tuple[str, str]]
NASTY = ("<script>alert(1)</script>", "$\\frac{$", "蜜蜂 *bold* | `x`")


def with_calibration(labels: tuple[str, ...] = ("ant", "bee"), **found: Any) -> Manifest:
    manifest = manifest_of(labels, metrics_of(labels))
    return dataclasses.replace(manifest, calibration=manifest.calibration | found)


def test_strangers_names_are_text_and_nothing_else(card: Card) -> None:
    markdown, page = card(NASTY)
    reading = Reading(page)
    assert not reading.all("script")
    assert not any(name.startswith("on") for _, attributes in reading.elements for name in attributes)
    for label in NASTY:
        assert label in reading.text
    assert "Bugs & <b>beetles</b>" in reading.text
    assert set(re.findall(r"(?<!\\)<[^>]*>", markdown)) == {
        PLACE, "<details>", "</details>", "<summary>", "</summary>",
    }  # fmt: skip


def test_it_needs_no_other_file(card: Card) -> None:
    _, page = card(NASTY)
    addresses = [
        value
        for _, attributes in Reading(page).elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href") and value
    ]
    assert addresses
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_its_head_says_how_good_what_when_and_on_which_images(card: Card) -> None:
    markdown, page = card()
    metrics = metrics_of(("ant", "bee"))
    low, high = metrics.accuracy_interval
    text = Reading(page).text
    head = text[: text.index("How good it is")]
    for said in (
        "bugs", "5 November 2026", "Bugs & <b>beetles</b>", "01234567", f"{100 * metrics.accuracy:.1f} %",
        f"between {100 * low:.1f} % and {100 * high:.1f} %", "accuracy on 30 validation images",
    ):  # fmt: skip
        assert said in head, said
    assert markdown.startswith("# bugs\n")
    assert f"**{100 * metrics.accuracy:.1f} % accuracy on 30 validation images**" in markdown


def test_every_plot_and_picture_says_what_it_shows(card: Card) -> None:
    _, page = card(NASTY)
    reading = Reading(page)
    plots, pictures = reading.all("svg"), reading.all("img")
    assert len(plots) == 7  # the interval; reliability before and after; penalty and learning by loss and accuracy
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 30 for plot in plots)
    assert page.count("<title>") == len(plots) + 1
    assert len(pictures) == len(metrics_of(NASTY).worst) > 3
    assert all("truly" in (picture["alt"] or "") for picture in pictures)
    assert all((picture["src"] or "").startswith("data:image/jpeg;base64,") for picture in pictures)


def test_every_colour_is_the_pages_own_so_that_a_dark_page_is_dark_throughout(card: Card) -> None:
    many = tuple(f"class {i}" for i in range(40))
    for _, page in (card(NASTY), card(many)):
        style = page[page.index("<style>") : page.index("</style>")]
        light, dark = re.findall(r":root \{[^}]+", style)
        assert set(re.findall(r"--[\w-]+(?=:)", light)) == set(re.findall(r"--[\w-]+(?=:)", dark))
        body = page[page.index("<body>") :]
        assert not re.search(r"(fill|stroke|background|color): ?(#(?!0*\))[0-9a-f]{3,6}|white|black|rgb)", body)
        assert "var(--accent)" in body


def test_numbers_stand_to_the_right(card: Card) -> None:
    markdown, page = card()
    rows = re.search(r"By class.*?</table>", page, re.DOTALL)
    assert rows is not None
    assert rows[0].count('<td class="number') == 2 * 4
    assert "| class | precision | recall | F1 | images |\n| --- | ---: | ---: | ---: | ---: |" in markdown


def test_the_matrix_shows_short_names_and_numbers_long_ones(card: Card) -> None:
    def columns(labels: tuple[str, ...]) -> list[str]:
        matrix = re.search(r'<table class="matrix">.*?</thead>', card(labels)[1], re.DOTALL)
        assert matrix is not None
        return re.findall(r'<th scope="col">(.*?)</th>', matrix[0])

    assert columns(tuple("0123456789")) == list("0123456789")
    long = tuple(f"a label as long as those of ImageNet, number {i}" for i in range(3))
    assert columns(long) == ["1", "2", "3"]
    assert all(f'<span class="label">{label}</span>' in card(long)[1] for label in long)


def test_of_many_classes_the_weakest_and_the_most_confused_are_shown_and_the_rest_folded(card: Card) -> None:
    labels = tuple(f"class {i}" for i in range(60))
    markdown, page = card(labels)
    assert "The 12 classes with the lowest F1, of 60." in markdown
    assert "<summary>All 60 classes</summary>" in page
    assert page.count('<th scope="col">') >= 12
    assert any("Confusion matrix of 60 classes" in (plot["aria-label"] or "") for plot in Reading(page).all("svg"))


def test_a_card_without_mistakes_says_so(card: Card) -> None:
    labels = tuple(f"class {i}" for i in range(60))
    perfect = compute_metrics(np.eye(60, dtype=np.float32) * 9, np.arange(60), labels, [""] * 60)
    markdown, _ = card(labels, validation=perfect, history=[], trials=[])
    assert "It made none on these images." in markdown
    assert "Nothing: every answer was right." in markdown
    assert "Fewer than 20 images of class 0, class 1" in markdown
    assert "between 94.0 % and 100.0 %" in markdown


def test_calibration_that_helped_is_told_with_both_errors(card: Card) -> None:
    markdown, page = card()
    assert "temperature of 1.300" in markdown
    assert "from 0.200 to 0.100" in markdown
    assert "Before calibration" in page
    assert "Calibration error before calibration" in markdown


def test_calibration_that_would_have_made_it_worse_is_told_plainly(card: Card) -> None:
    kept = {"temperature": 1.0, "fitted_temperature": 1.21, "error_before": 0.181, "error_fitted": 0.193}
    markdown, page = card(manifest=with_calibration(**kept))
    assert "would have raised the calibration error from 0.181 to 0.193" in markdown
    assert "The temperature stays 1" in Reading(page).text
    assert 'class="caution"' in page
    assert "before calibration" not in markdown
    validated = {"error_fitted": 0.1, "loss_before": 0.5, "loss_cross_validated": 0.52}
    markdown, _ = card(manifest=with_calibration(**(kept | validated)))
    assert "not helped on images that it was not fitted on (cross-entropy 0.520, without it 0.500)" in markdown
    markdown, _ = card(manifest=with_calibration(temperature=1.0, loss_cross_validated=None))
    assert "there is nothing to calibrate on" in markdown


def test_versions_on_the_same_images_stand_side_by_side(card: Card) -> None:
    for form in card(earlier=[EarlierVersion(1, "lenet5", "none", 0.5123)]):
        assert "51.2 %" in form
        assert "version 1" in form
    assert "other versions" not in card()[0]


def test_test_images_are_told_from_validation_images(card: Card) -> None:
    markdown, _ = card(test=metrics_of(("ant", "bee"), images=24))
    assert "|  | validation | test |" in markdown
    assert "accuracy on 24 test images" in markdown
    assert "had no say in the training" in markdown


def test_what_somebody_needs_to_make_it_again_is_folded(card: Card) -> None:
    _, page = card()
    folded = page[page.index("<details><summary>To make it again</summary>") :]
    for said in ("sha256 of those", "content hash of the dataset", "ONNX against PyTorch", "logistic regression"):
        assert said in folded


def settings_of(card: Card, **recipe: Any) -> set[str]:
    labels = ("ant", "bee")
    markdown, _ = card(manifest=manifest_of(labels, metrics_of(labels), **recipe))
    again = markdown[markdown.index("To make it again") :]
    return set(re.findall(r"^\| ([\w\\]+) \|", again.replace("\\_", "_"), re.MULTILINE))


OF_A_TRAINING = {"optimizer", "epochs", "batch_size", "learning_rate", "schedule", "weight_decay", "patience"}


def test_a_regression_has_no_optimiser_and_no_epochs(card: Card) -> None:
    shown = settings_of(card)
    assert {"head", "l2", "head_views", "class_balance", "augmentation", "seed"} <= shown
    assert not shown & (
        OF_A_TRAINING | {"momentum", "dropout", "label_smoothing", "batch_norm", "mixed_precision"}
    )
    plain = settings_of(card, logistic_regression=REGRESSION | {"augmented": False})
    assert "head_views" not in plain


@pytest.mark.parametrize(
    ("recipe", "shown", "hidden"),
    [
        (
            {"strategy": "full"},
            {"backbone_rate"},
            {"head", "head_views", "momentum", "schedule_epochs", "dropout"},
        ),
        ({"strategy": "head", "head": "gradient"}, {"head", "head_views"}, {"backbone_rate"}),
        ({"strategy": "full", "optimizer": "sgd", "schedule": "step"}, {"momentum", "schedule_epochs"}, set()),
    ],
)
def test_a_training_shows_the_settings_that_it_used(
    card: Card, recipe: dict[str, Any], shown: set[str], hidden: set[str]
) -> None:
    found = settings_of(card, logistic_regression=None, **recipe)
    assert found >= OF_A_TRAINING | shown
    assert not found & (hidden | {"l2", "logistic_regression"})


def test_the_same_card_is_written_the_same(card: Card) -> None:
    assert card(NASTY) == card(NASTY, anew=True)
