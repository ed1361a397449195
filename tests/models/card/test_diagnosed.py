"""The page of a diagnosis: what strangers' names do to it, and what it says where nothing was looked for."""

import numpy as np
from support.cards import Reading
from support.clouds import clouds, contents

from models.card.diagnosed import DiagnosedDataset, diagnosis_page
from models.card.render import to_html, to_markdown
from models.diagnosis.diagnose import NotHeldOut, diagnose
from models.diagnosis.held_out import leave_each_out
from models.diagnosis.images import DiagnosedImages
from models.diagnosis.report import Diagnosis

HOSTILE = "<img src=x onerror=alert(1)>"
DATASET = DiagnosedDataset("ds_1", f"bugs {HOSTILE}", "ab" * 32, "m:2", "2026-11-27T04:00:00Z")


def diagnosis(*, judged: bool = True) -> Diagnosis:
    embedding, targets = clouds(20, spread=0.4)
    wrong = targets.copy()
    wrong[[3, 30]] = [1, 2]
    images = DiagnosedImages(
        ("ant", HOSTILE, "wasp"), wrong, tuple(f"{i}{HOSTILE}.png" for i in range(60)), tuple(contents(60)),
        (None,) * 60,
    )  # fmt: skip
    held_out = (
        leave_each_out(embedding, wrong, images.sha256, np.arange(3)) if judged else NotHeldOut("of a reason")
    )
    return diagnose(images, embedding if judged else None, held_out, pixels, most_multiply_adds=1e9)


def pixels(place: int) -> np.ndarray:
    return np.full((32, 32, 3), 2 * place, np.uint8)


def test_names_of_strangers_are_text() -> None:
    page = diagnosis_page(diagnosis(), DATASET, pixels)
    reading = Reading(to_html(page))
    assert HOSTILE in reading.text
    assert all((image["src"] or "").startswith("data:") for image in reading.all("img"))
    assert HOSTILE not in to_markdown(page)
    assert f"3{HOSTILE}.png" in reading.text


def test_what_was_not_looked_for_has_its_reason_and_no_number() -> None:
    text = Reading(to_html(diagnosis_page(diagnosis(judged=False), DATASET, pixels))).text
    assert text.count("not looked for: of a reason") >= 3
    assert "the version gives no embedding to compare images by" in text
