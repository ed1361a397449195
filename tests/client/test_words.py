"""A job's progress in words and as a fraction."""

from typing import Any

import pytest
from support.waited import job

from fovea_client.words import describe, fraction_done

TRAINING: dict[str, Any] = {
    "state": "running",
    "progress": {"phase": "training", "epoch": 3, "epochs": 20, "loss": 0.1234, "accuracy": 0.978, "eta_s": 65},
}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"state": "queued", "progress": {}}, "queued"),
        ({"state": "running", "progress": {}}, "running"),
        ({"state": "running", "progress": {"phase": "exporting"}}, "exporting"),
        (TRAINING, "training, epoch 3 of 20, loss 0.123, accuracy 97.8 %, 1:05 left"),
        ({"state": "running", "progress": {"phase": "reading", "done": 70, "total": None}}, "reading, 70"),
        (
            {
                "state": "running",
                "progress": {"phase": "features", "done": 3, "total": 9, "images_per_second": 81.7},
            },
            "features, 3 of 9, 82 images/s",
        ),
        (
            {**TRAINING, "progress": {**TRAINING["progress"], "validation_accuracy": 0.9}},
            "training, epoch 3 of 20, loss 0.123, accuracy 97.8 %, validation 90.0 %, 1:05 left",
        ),
        (
            {"state": "running", "progress": {"phase": "trying", "precision": "int8", "done": 2, "total": 6}},
            "trying int8, 2 of 6",
        ),
        ({"state": "running", "progress": {"phase": "publishing", "precision": "int8"}}, "publishing"),
        ({"state": "succeeded", "progress": {"phase": "publishing"}}, "succeeded"),
    ],
)
def test_a_state_is_described_in_a_few_words(found: dict[str, object], words: str) -> None:
    assert describe(job(found)) == words


def test_in_brief_it_says_how_far_but_not_how_well() -> None:
    assert describe(job(TRAINING), brief=True) == "training, epoch 3 of 20"


def test_the_fraction_is_of_the_epochs_and_unknown_without_them() -> None:
    assert fraction_done(job(TRAINING)) == pytest.approx(0.15)
    assert fraction_done(job({"state": "running", "progress": {"phase": "exporting"}})) is None
    assert fraction_done(job({"state": "failed", "progress": {}})) == 1.0


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [
        ({"epoch": 1, "epochs": 4, "step": 1, "steps": 2}, 0.125),
        ({"epoch": 4, "epochs": 4, "step": 2, "steps": 2}, 1.0),
        ({"done": 3, "total": 12}, 0.25),
        ({"done": 3, "total": None}, None),
        ({"done_bytes": 10, "total_bytes": 40}, 0.25),
    ],
)
def test_the_fraction_is_of_what_the_phase_counts(progress: dict[str, object], fraction: float | None) -> None:
    assert fraction_done(job({"state": "running", "progress": progress})) == fraction
