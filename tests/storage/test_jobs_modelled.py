"""The ledger against a model of it, a few lines of plain Python, through whatever Hypothesis thinks of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage.database import Database
from storage.errors import LeaseLost
from storage.job_ledger import Attempt, JobLedger, JobState

LEASES = st.sampled_from([60, -1])  # a good one, and one that has ended when it begins
MAX_ATTEMPTS = 2


@dataclass
class Expected:
    state: JobState = JobState.QUEUED
    attempt: int = 0
    holder: str | None = None
    silent: bool = False
    cancel_requested: bool = False

    @property
    def is_free(self) -> bool:
        return self.state == JobState.QUEUED or (self.state == JobState.RUNNING and self.silent)

    def end(self, state: JobState, holder: str | None = None) -> None:
        self.state, self.holder = state, holder

    def settle(self) -> None:
        """What becomes of a job whose holder has gone silent, when somebody looks."""
        if self.state == JobState.RUNNING and self.silent:
            if self.cancel_requested:
                self.end(JobState.CANCELLED)
            elif self.attempt == MAX_ATTEMPTS:
                self.end(JobState.FAILED)

    def requeue(self) -> None:
        self.end(JobState.CANCELLED if self.cancel_requested else JobState.QUEUED)


class LedgerMachine(RuleBasedStateMachine):
    jobs: Any = Bundle("jobs")
    attempts: Any = Bundle("attempts")

    def __init__(self, ledger: JobLedger) -> None:
        super().__init__()
        self.ledger = ledger
        self.expected: dict[str, Expected] = {}

    @rule(target=jobs)
    def create(self) -> str:
        job = self.ledger.create("finetune", {}, max_attempts=MAX_ATTEMPTS)
        self.expected[job.id] = Expected()
        return job.id

    @rule(target=attempts, job=jobs, lease_s=LEASES)
    def take(self, job: str, lease_s: float) -> Attempt | None:
        expected = self.expected[job]
        attempt = self.ledger.take(job, "w", lease_s)
        if expected.is_free and not expected.cancel_requested and expected.attempt < MAX_ATTEMPTS:
            assert attempt is not None
            expected.state, expected.holder, expected.silent = JobState.RUNNING, attempt.token, lease_s < 0
            expected.attempt += 1
        else:
            assert attempt is None
            expected.settle()
        return attempt

    def write(self, attempt: Attempt | None, call: Callable[[Attempt], Any]) -> Expected | None:
        """Call it; return what was expected of the job if the attempt holds it, and refuse any other outcome."""
        if attempt is None:
            return None
        expected = self.expected[attempt.job.id]
        if expected.state == JobState.RUNNING and expected.holder == attempt.token:
            call(attempt)
            return expected
        with pytest.raises(LeaseLost):
            call(attempt)
        return None

    @rule(attempt=attempts, lease_s=LEASES)
    def renew(self, attempt: Attempt | None, lease_s: float) -> None:
        answers: list[bool] = []
        held = self.write(attempt, lambda a: answers.append(self.ledger.renew(a, lease_s)))
        if held:
            held.silent = lease_s < 0
            assert answers == [held.cancel_requested]

    @rule(attempt=attempts)
    def progress(self, attempt: Attempt | None) -> None:
        self.write(attempt, lambda a: self.ledger.report_progress(a, {"token": a.token}))

    @rule(attempt=attempts, state=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]))
    def end(self, attempt: Attempt | None, state: JobState) -> None:
        calls: dict[JobState, Callable[[Attempt], Any]] = {
            JobState.SUCCEEDED: lambda a: self.ledger.succeed(a, {"token": a.token}),
            JobState.FAILED: lambda a: self.ledger.fail(a, "code", "detail"),
            JobState.CANCELLED: lambda a: self.ledger.end_cancelled(a),
        }
        if attempt is not None:
            expected = self.expected[attempt.job.id]
            if expected.state == state and expected.holder == attempt.token:
                calls[state](attempt)  # the same end twice
                return
        held = self.write(attempt, calls[state])
        if held and attempt:
            held.end(state, attempt.token)

    @rule(attempt=attempts)
    def retry(self, attempt: Attempt | None) -> None:
        held = self.write(attempt, lambda a: self.ledger.fail(a, "code", "detail", retry=True))
        if held and attempt:
            if held.attempt < MAX_ATTEMPTS:
                held.requeue()
            else:
                held.end(JobState.FAILED, attempt.token)

    @rule(attempt=attempts)
    def release(self, attempt: Attempt | None) -> None:
        held = self.write(attempt, self.ledger.release)
        if held:
            held.attempt -= 1
            held.requeue()

    @rule(job=jobs)
    def request_cancel(self, job: str) -> None:
        self.ledger.request_cancel(job)
        expected = self.expected[job]
        if not expected.state.is_terminal:
            expected.cancel_requested = True
        if expected.state == JobState.QUEUED:
            expected.end(JobState.CANCELLED)

    @rule()
    def reconcile(self) -> None:
        found = {job.id for job in self.ledger.to_requeue(older_than_s=-1)}
        for expected in self.expected.values():
            expected.settle()
        assert found == {job for job, expected in self.expected.items() if expected.is_free}

    @invariant()
    def every_job_is_as_expected(self) -> None:
        for job_id, expected in self.expected.items():
            job = self.ledger.get(job_id)
            assert (job.state, job.attempt, job.cancel_requested) == (
                expected.state,
                expected.attempt,
                expected.cancel_requested,
            )
            assert (job.finished_at is not None) is job.state.is_terminal
            told = self.ledger.events(job_id)
            assert [event.id for event in told] == list(range(1, len(told) + 1))
            assert [e for e in told if e.kind == "state"][-1].data["state"] == job.state

    def teardown(self) -> None:
        """The next run of the machine uses the same database: leave nothing that a reconciler would find."""
        for job_id in self.expected:
            self.ledger.request_cancel(job_id)
            attempt = self.ledger.take(job_id, "w", -1)
            assert attempt is None


def test_the_ledger_does_what_its_model_does(database: Database) -> None:
    ledger = JobLedger(database)
    run_state_machine_as_test(
        lambda: LedgerMachine(ledger),
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
