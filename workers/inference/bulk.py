"""Durable jobs of an inference worker: take one, hold its lease, run its kind, end it. Knows no Celery."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from models.errors import ModelError
from storage.errors import BlobsUnavailable, DatabaseUnavailable, LeaseLost, StorageError
from storage.job import Attempt
from storage.jobs import JobLedger
from workers.contract import JobKind
from workers.traces import Tracer

log = structlog.get_logger()
# Not the job's own fault: a full disk, a database or a store that is away.
PASSING = (DatabaseUnavailable, BlobsUnavailable, OSError)


class Cancelled(Exception):
    """Raised by a job's own work when it was asked to stop."""


@dataclass
class Held:
    """An attempt that this worker holds. `check` is called by the work wherever it can stop."""

    ledger: JobLedger
    attempt: Attempt
    lease_s: float
    cancel_requested: bool = False

    @property
    def request(self) -> Mapping[str, Any]:
        return self.attempt.job.request

    def progress(self, **figures: Any) -> None:
        """Write how far it is. Raises LeaseLost, and Cancelled when the job shall stop."""
        self.check()
        self.ledger.progress(self.attempt, figures)

    def may_pass(self, error: Exception) -> bool:
        """Whether another attempt may succeed where this one failed, and there will be one."""
        job = self.attempt.job
        return isinstance(error, PASSING) and job.attempt < job.max_attempts

    def check(self) -> None:
        if self.cancel_requested:
            raise Cancelled

    def renew(self) -> None:
        self.cancel_requested = self.ledger.renew(self.attempt, self.lease_s)


Work = Callable[[Held], dict[str, Any]]


@dataclass(frozen=True)
class BulkJobs:
    """Runs jobs by their kind; a kind's work returns the job's result or raises why there is none."""

    ledger: JobLedger
    works: Mapping[JobKind, Work]
    worker: str
    lease_s: float
    tracer: Tracer | None = None

    def run(self, job_id: str) -> None:
        """Take the job and end it; does nothing when it is another worker's, ended or cancelled."""
        attempt = self.ledger.take(job_id, self.worker, self.lease_s)
        if attempt is None:
            return
        held = Held(self.ledger, attempt, self.lease_s)
        span = self.tracer.start_attempt(attempt.job) if self.tracer else None
        failed: str | None = None
        try:
            with _renewed(held):
                result = self.works[JobKind(attempt.job.kind)](held)
            self.ledger.succeed(attempt, result)
        except LeaseLost:
            failed = "lease_lost"
            log.warning("job.lease_lost", job=job_id)
        except Cancelled:
            self.ledger.cancelled(attempt)
        except PASSING as error:
            failed = failure_code(error)
            log.warning("job.failed_for_now", job=job_id, reason=str(error))
            self.ledger.fail(attempt, failed, str(error), retry=True)
        except (ModelError, StorageError) as error:
            failed = failure_code(error)
            log.info("job.failed", job=job_id, reason=str(error))
            self.ledger.fail(attempt, failed, str(error))
        except Exception as error:
            failed = "internal"
            # Whatever it is, the job's user shall learn that it happened; the log has the rest.
            log.exception("job.crashed", job=job_id)
            self.ledger.fail(attempt, failed, f"{type(error).__name__}: {error}")
        finally:
            if span:
                span.end(error=failed)


def failure_code(error: Exception) -> str:
    """`DatasetRefused` becomes `dataset_refused`: the class says the condition."""
    name = type(error).__name__
    return "".join(f"_{c.lower()}" if c.isupper() and n else c.lower() for n, c in enumerate(name))


@contextmanager
def _renewed(held: Held) -> Iterator[None]:
    """Renew the lease in the background, for one step of the work may outlast it."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(min(1.0, held.lease_s / 3)):
            try:
                held.renew()
            except LeaseLost:
                held.cancel_requested = True
                return
            except StorageError as error:
                log.warning("job.renewal_failed", job=held.attempt.job.id, reason=str(error))

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
