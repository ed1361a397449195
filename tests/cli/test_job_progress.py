"""A job's progress in words, as lines and as an end."""

from typing import Any

import pytest

from cli.errors import JobFailed
from cli.job_progress import JobProgress, describe, fraction_done, require_success

TRAINING: dict[str, Any] = {
    "id": "job_1",
    "state": "running",
    "progress": {"phase": "training", "epoch": 3, "epochs": 20, "loss": 0.1234, "accuracy": 0.978, "eta_s": 65},
}


@pytest.mark.parametrize(
    ("job", "words"),
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
def test_a_state_is_described_in_a_few_words(job: dict[str, object], words: str) -> None:
    assert describe(job) == words


def test_in_brief_it_says_how_far_but_not_how_well() -> None:
    assert describe(TRAINING, brief=True) == "training, epoch 3 of 20"


def test_the_fraction_is_of_the_epochs_and_unknown_without_them() -> None:
    assert fraction_done(TRAINING) == pytest.approx(0.15)
    assert fraction_done({"state": "running", "progress": {"phase": "exporting"}}) is None
    assert fraction_done({"state": "failed", "progress": {}}) == 1.0


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
    assert fraction_done({"state": "running", "progress": progress}) == fraction


def test_without_a_terminal_each_phase_is_a_line() -> None:
    said: list[str] = []
    phases = [
        {**TRAINING, "progress": {"phase": name}} for name in ("preparing", "training", "training", "exporting")
    ]
    with JobProgress("digits", None, said.append) as progress:
        done = progress.follow([*phases, {"id": "job_1", "state": "succeeded"}])
    assert done["state"] == "succeeded"
    assert said == ["digits: preparing", "digits: training", "digits: exporting", "digits: succeeded"]


def test_a_job_that_failed_is_an_error_with_its_reason() -> None:
    failed = {
        "id": "job_1",
        "state": "failed",
        "error": {"code": "export_mismatch", "detail": "logits differ by 0.2"},
    }
    with JobProgress("digits", None) as progress, pytest.raises(JobFailed) as failure:
        progress.follow([TRAINING, failed])
    assert str(failure.value) == "job job_1 failed: logits differ by 0.2 (export_mismatch)"


def test_what_a_cancelled_job_kept_is_named() -> None:
    kept = {"id": "job_1", "state": "cancelled", "result": {"model": "ants-bees", "version": 4}}
    with pytest.raises(JobFailed, match="job job_1 cancelled; the best until then is kept: ants-bees version 4"):
        require_success(kept)
