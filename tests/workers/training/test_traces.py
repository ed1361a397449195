"""The trace of a training job: one span for each attempt, one for each phase of it."""

import itertools
from pathlib import Path

import pytest
from support.collector import Collector
from support.trainer import QUICK, Trainer

from storage.job_ledger import Job, JobState

TRACE, REQUEST = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traced(trainer: Trainer, collector: Collector, **request: object) -> Job:
    trainer.settings = trainer.settings.model_copy(update={"traces_url": collector.url})
    return trainer.ledger.create("finetune", {**QUICK, **request}, traceparent=f"00-{TRACE}-{REQUEST}-01")


@pytest.mark.slow
def test_a_fine_tune_is_in_its_requests_trace_with_its_phases_in_order(trainer: Trainer, digits: Path) -> None:
    trainer.use_digits(digits)
    with Collector() as collector:
        job = trainer.run_here(traced(trainer, collector))
        assert job.state is JobState.SUCCEEDED
    spans = {span.name: span for span in collector.spans}
    assert {span.trace_id for span in collector.spans} == {TRACE}
    attempt = spans.pop("finetune")
    assert spans.pop("queue").parent_id == attempt.parent_id == REQUEST
    assert attempt.attributes["fovea.job"] == job.id
    assert attempt.attributes["fovea.attempt"] == 1
    assert not attempt.failed
    assert {span.parent_id for span in spans.values()} == {attempt.span_id}
    assert job.result is not None
    in_order = sorted(spans.values(), key=lambda span: span.start)
    assert [span.name for span in in_order] == list(job.result["seconds"])
    assert in_order[0].name == "starting"
    assert in_order[-1].name == "publishing"
    for before, after in itertools.pairwise(in_order):
        assert abs(after.start - before.end) < 0.5


def test_an_attempt_that_fails_says_why_and_in_which_phase(trainer: Trainer, digits: Path) -> None:
    trainer.use_digits(digits)
    with Collector() as collector:
        job = trainer.run_here(traced(trainer, collector, architecture="no_such_network"))
        assert job.state is JobState.FAILED
    spans = {span.name: span for span in collector.spans}
    assert job.error is not None
    assert spans["finetune"].failed
    assert spans["finetune"].attributes["error.type"] == job.error["code"]
    assert spans["preparing"].parent_id == spans["finetune"].span_id
