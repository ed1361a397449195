"""The card stands alone, shows what it should, and runs nothing that a stranger put into a file name."""

import dataclasses
import html.parser
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import Manifest
from models.spec import Preprocessing
from models.training.card import Sibling, write_card
from models.training.data import Pixels
from models.training.document import Document, Paragraph, Table
from models.training.linear import Trial
from models.training.metrics import Metrics, compute_metrics
from models.training.progress import EpochRecord
from models.training.recipe import DEFAULT

NASTY = ("<script>alert(1)</script>", "$\\frac{$", "蜜蜂 *bold* | `x`")


def evaluation(labels: tuple[str, ...], images: int = 30) -> Metrics:
    rng = np.random.default_rng(0)
    targets = np.arange(images, dtype=np.int64) % len(labels)
    logits = rng.normal(size=(images, len(labels))).astype(np.float32)
    logits[np.arange(images), targets] += 1
    return compute_metrics(
        logits, targets, labels, [f"{i}<img src=x onerror=alert(2)>.png" for i in range(images)], 1.3
    )


def manifest(labels: tuple[str, ...], found: Metrics) -> Manifest:
    return Manifest(
        model="bugs",
        labels=labels,
        preprocessing=Preprocessing(32, 32, 32),
        architecture="lenet5",
        weights={"origin": "keras", "name": "imagenet", "sha256": "ab" * 32, "licence": "Apache-2.0"},
        dataset={
            "id": "ds_1",
            "content_hash": "cd" * 32,
            "split": {
                "origin": "given",
                **{part: dict.fromkeys(labels, 9) for part in ("train", "validation", "test")},
            },
        },
        recipe={
            **DEFAULT.to_dict(), "name": "default", "strategy": "head", "strategy_reason": "Few images.",
            "logistic_regression": {"l2": 0.1, "augmented": True, "trials": []},
        },
        seed=3,
        metrics={**found.summary(), "baseline_accuracy": 0.25, "best_epoch": 2, "stopped": "patience"},
        calibration={"temperature": 1.3},
        parity={"agreement": 1.0, "images": 30, "batch_sizes": [1, 3, 8], "max_abs_diff": 1e-6},
    )  # fmt: skip


def card(folder: Path, labels: tuple[str, ...] = NASTY, **changes: Any) -> tuple[str, str]:
    found = evaluation(labels)
    pieces: dict[str, Any] = {
        "validation": found,
        "test": None,
        "history": [EpochRecord(i, 1 / i, 0.5, 1 / i, 0.6, 0.1, 1.0) for i in (1, 2, 3)],
        "trials": [Trial(s, v, s, 0.5) for s in (0.01, 0.1, 1.0) for v in (False, True)],
        "pictures": Pixels(np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3), np.uint8)),
        "siblings": [],
        **changes,
    }
    write_card(folder, manifest(labels, found), **pieces)
    return (folder / "card.md").read_text(), (folder / "card.html").read_text()


class Reading(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reading:
    reading = Reading()
    reading.feed(page)
    return reading


def test_strangers_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    markdown, page = card(tmp_path)
    reading = read(page)
    assert "script" not in reading.tags
    assert not any(name.startswith("on") for name, _ in reading.attributes)
    for label in NASTY:
        assert label in reading.text
    assert "<script>" not in markdown.replace("\\<script\\>", "")


def test_it_needs_no_other_file(tmp_path: Path) -> None:
    _, page = card(tmp_path)
    sources = [value for name, value in read(page).attributes if name in ("src", "href", "xlink:href") and value]
    assert sources
    assert all(value.startswith(("data:image/", "#")) for value in sources)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_it_shows_plots_and_the_worst_mistakes(tmp_path: Path) -> None:
    markdown, page = card(tmp_path)
    reading = read(page)
    assert reading.tags.count("svg") == 4
    found = evaluation(NASTY)
    pictures = [
        value
        for name, value in reading.attributes
        if name == "src" and (value or "").startswith("data:image/jpeg")
    ]
    assert len(pictures) == len(found.worst) > 3
    assert f"{100 * found.accuracy:.1f} %" in markdown
    assert f"{found.calibration_error:.4f}" in page
    assert "Few images." in markdown
    assert "25.0 %" in markdown


def test_versions_on_the_same_images_stand_side_by_side(tmp_path: Path) -> None:
    markdown, page = card(tmp_path, siblings=[Sibling(1, "lenet5", "none", 0.5123)])
    for form in (markdown, page):
        assert "51.2 %" in form
        assert "version 1" in form
    alone, _ = card(tmp_path)
    assert "other versions" not in alone


def test_test_images_are_told_from_validation_images(tmp_path: Path) -> None:
    markdown, _ = card(tmp_path, test=evaluation(NASTY, images=24))
    assert "|  | validation | test |" in markdown
    assert "had no say in the training" in markdown


def test_many_classes_and_no_mistakes_make_a_card_too(tmp_path: Path) -> None:
    labels = tuple(f"class {i}" for i in range(60))
    logits = np.eye(60, dtype=np.float32)
    perfect = compute_metrics(logits * 9, np.arange(60), labels, [""] * 60)
    markdown, _ = card(tmp_path, labels, validation=perfect, history=[], trials=[])
    assert "It made none on these images." in markdown
    assert "Fewer than 20 images stand behind" in markdown


def test_the_same_card_is_written_the_same(tmp_path: Path) -> None:
    first = card(tmp_path)[1]
    again = card(tmp_path)[1]
    made = re.compile(r"<td>made</td><td>[^<]*</td>")
    assert made.sub("", first) == made.sub("", again)


@pytest.mark.parametrize("text", ["a|b", "*x*", "[l](u)", "<b>", "# no", "a_b_c", "_x_"])
def test_markdown_says_what_was_written(text: str) -> None:
    page = Document("t")
    page.section("s", Table([text], [[text]]), Paragraph(text))
    lines = page.markdown().splitlines()
    assert len(lines) == len(set(dataclasses.asdict(page))) + 7
    assert re.sub(r"\\(.)", r"\1", lines[-1]) == text
