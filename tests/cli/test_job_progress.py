"""A job's progress on what is no terminal, as lines and as an end."""

from typing import Any

import pytest

from cli.job_progress import JobProgress
from fovea_client import Job, JobFailed

TRAINING: dict[str, Any] = {
    "id": "job_1",
    "state": "running",
    "progress": {"phase": "training", "epoch": 3, "epochs": 20, "loss": 0.1234, "accuracy": 0.978, "eta_s": 65},
}


def job(found: dict[str, Any]) -> Job:
    """As an answer of the API, read without a Fovea behind it."""
    return Job.read({"kind": "finetune", **found}, _session=None)


def test_without_a_terminal_each_phase_is_a_line() -> None:
    said: list[str] = []
    phases = [
        {**TRAINING, "progress": {"phase": name}} for name in ("preparing", "training", "training", "exporting")
    ]
    with JobProgress("digits", None, said.append) as progress:
        progress.follow([*map(job, phases), job({"id": "job_1", "state": "succeeded"})])
    assert said == ["digits: preparing", "digits: training", "digits: exporting", "digits: succeeded"]


def test_a_job_that_failed_is_an_error_with_its_reason() -> None:
    failed = {
        "id": "job_1",
        "state": "failed",
        "error": {"code": "export_mismatch", "detail": "logits differ by 0.2"},
    }
    with JobProgress("digits", None) as progress, pytest.raises(JobFailed) as failure:
        progress.follow([job(TRAINING), job(failed)])
    assert str(failure.value) == "job job_1 failed: logits differ by 0.2 (export_mismatch)"


def test_what_a_cancelled_job_kept_is_named() -> None:
    kept = {"id": "job_1", "state": "cancelled", "result": {"model": "ants-bees", "version": 4}}
    with pytest.raises(JobFailed, match="job job_1 cancelled; the best until then is kept: ants-bees version 4"):
        job(kept).require_success()
