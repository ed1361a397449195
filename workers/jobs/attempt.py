"""One attempt at a durable job, from taking it to its end: the same for every kind and for both kinds of worker.

The database decides who runs a job; what an attempt writes is fenced by its token, and what belongs together is
written in one transaction, so that a kill at any moment leaves the job either as it was or ended.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from models.training.interruption import Interrupted
from storage.audit import Actor, acting
from storage.database import Transaction
from storage.errors import DatabaseUnavailable, LeaseLost, NotFound, StorageError
from storage.job import Attempt, Job
from storage.job_ledger import JobLedger
from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.jobs.kinds import Request, read_request
from workers.contract.queues import JobKind
from workers.jobs.failure import INTERNAL, failure_of
from workers.jobs.lease import CANCELLED, Lease
from workers.traces import Span, Tracer

log = structlog.get_logger()


class RunningAttempt:
    """An attempt while its work goes on. The work ends it by `succeed`, or raises why it cannot."""

    def __init__(self, ledger: JobLedger, attempt: Attempt, lease: Lease, span: Span | None = None) -> None:
        self._ledger, self._attempt = ledger, attempt
        self.lease, self.span = lease, span
        self.has_ended = False
        self._ends_with_transaction = False

    @property
    def job(self) -> Job:
        """As it was when it was taken."""
        return self._attempt.job

    @property
    def short_id(self) -> str:
        """Eight characters that no other attempt of the job has, for folders and prefixes of its own."""
        return self._attempt.token[:8]

    def request(self, kind: type[Request]) -> Request:
        """What the job was asked. Raises pydantic's ValidationError for a row that is not of that kind."""
        return read_request(kind, self.job.request)

    def check(self) -> None:
        """To be called wherever the work can stop. Raises LeaseLost and Interrupted."""
        self.lease.check()

    def report(self, progress: dict[str, Any]) -> None:
        """Write how far the work is. Raises LeaseLost and Interrupted."""
        self.lease.check()
        self._ledger.report_progress(self._attempt, progress)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction in which this attempt holds the job. Raises LeaseLost and Interrupted."""
        self.lease.check()
        with self._ledger.transaction(self._attempt) as transaction:
            yield transaction
        self.has_ended = self._ends_with_transaction

    def succeed(self, result: JobResult, *, within: Transaction | None = None) -> None:
        """End the job; as cancelled, with its result, where only the best so far was wanted. Raises LeaseLost."""
        end = self._ledger.end_cancelled if self.lease.is_cancelled else self._ledger.succeed
        end(self._attempt, result.model_dump(mode="json"), within=within)
        self._has_written_end(within)

    def follow_up(self, kind: JobKind, request: JobRequest, *, within: Transaction) -> Job:
        """A job that this one leaves behind, there once the transaction is committed. It is not sent."""
        return self._ledger.follow_up(self._attempt, kind.value, request.model_dump(mode="json"), within=within)

    def fail(self, error: Exception, *, within: Transaction | None = None) -> None:
        """End the job, or have it tried again, as the table of failures says. Raises LeaseLost."""
        failure = failure_of(error)
        self._ledger.fail(self._attempt, failure.code, failure.detail, retry=failure.retry, within=within)
        self._has_written_end(within)

    def _has_written_end(self, within: Transaction | None) -> None:
        """What is written within a transaction is true once that has been committed."""
        if within is None:
            self.has_ended = True
        else:
            self._ends_with_transaction = True


JobFunction = Callable[[RunningAttempt], None]


def take(ledger: JobLedger, job_id: str, worker: str, lease_s: float) -> Attempt | None:
    """Begin the job's next attempt; None where there is none to begin now, which is what stale messages find."""
    try:
        attempt = ledger.take(job_id, worker, lease_s)
    except NotFound:
        log.warning("job.unknown", job=job_id)
        return None
    except StorageError as error:
        # The reconciler sends the job again.
        log.warning("job.not_taken", job=job_id, reason=str(error))
        return None
    if attempt is None:
        log.info("job.not_to_be_run", job=job_id)
    return attempt


def give_back_unknown(ledger: JobLedger, attempt: Attempt) -> None:
    """Release a job of a kind that this worker does not know: a later release runs beside it and added one."""
    log.warning("job.unknown_kind", job=attempt.job.id, kind=attempt.job.kind)
    with suppress(StorageError):
        ledger.release(attempt)


def run_attempt(
    ledger: JobLedger,
    attempt: Attempt,
    work: JobFunction,
    *,
    lease_s: float,
    stop: threading.Event | None = None,
    tracer: Tracer | None = None,
    taken_at: float | None = None,
) -> None:
    """Do the work under the attempt's lease, and see to it that the job's row says how it went.

    `taken_at`, in seconds since the epoch, is for its trace; left out, it is now.

    Of the database's errors it raises only what no later attempt would be spared, such as SchemaMismatch; what
    could not be written now, the end of the lease tells the reconciler.
    """
    job = attempt.job
    span = tracer.start_attempt(job, at=taken_at) if tracer else None
    code: str | None = INTERNAL
    actor = Actor("worker", job_id=job.id, request_id=job.request_id)
    with structlog.contextvars.bound_contextvars(job=job.id, attempt=job.attempt), acting(actor):
        try:
            with Lease(ledger, attempt, lease_s, stop) as lease:
                code = _run(ledger, attempt, RunningAttempt(ledger, attempt, lease, span), work)
        except LeaseLost as error:
            # Whoever holds the job now decides about it; this attempt's work is void.
            code = "lease_lost"
            log.warning("job.lease_lost", reason=str(error))
        except DatabaseUnavailable as error:
            code = "database_unavailable"
            log.error("job.end_not_written", reason=str(error))  # the reason says it all
        finally:
            if span:
                span.end(error=code)


def _run(ledger: JobLedger, attempt: Attempt, running: RunningAttempt, work: JobFunction) -> str | None:
    """Why there is no result, as a code; None where there is one. Raises LeaseLost and DatabaseUnavailable."""
    log.info("job.taken", kind=attempt.job.kind)
    try:
        work(running)
        if not running.has_ended:
            raise RuntimeError("the work returned without ending its job")
    except Interrupted as interruption:
        log.info("job.interrupted", reason=interruption.reason)
        if interruption.reason == CANCELLED:
            ledger.end_cancelled(attempt)
        else:
            ledger.release(attempt)
        return interruption.reason
    except LeaseLost:
        raise
    except Exception as error:
        if running.has_ended:
            log.exception("job.not_cleaned_up")
            return None
        failure = failure_of(error)
        if failure.code == INTERNAL:
            log.exception("job.failed", code=failure.code)
        else:
            log.warning("job.failed", code=failure.code, reason=str(error))
        running.fail(error)
        return failure.code
    log.info("job.ended")
    return None
