"""One training job in a process of its own: `python -m workers.training.runner JOB`.

Takes the job, runs its phases, and ends it: with a result, with a reason, or by giving it back. Exits 0 whenever
the job's row says what happened; anything else is for the worker that started this process to explain.
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from models.training.interruption import Interrupted
from models.weights.store import WeightsStore
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.database import open_database
from storage.datasets import DatasetRegistry
from storage.errors import LeaseLost, NotFound, StorageError
from storage.jobs import JobLedger
from storage.registry import ModelRegistry
from workers.contract import JobKind
from workers.logs import configure_logging
from workers.settings import WorkerSettings
from workers.traces import open_tracer
from workers.training.context import Context
from workers.training.failure import failure_of
from workers.training.housekeeping import bound, sweep_work
from workers.training.lease import CANCELLED, Lease
from workers.training.parent import WORKER_VARIABLE, hand_over
from workers.training.reporter import Reporter

log = structlog.get_logger()


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m workers.training.runner JOB\n")
        return 2
    settings = WorkerSettings()
    configure_logging("trainer", form=settings.log_format, level=settings.log_level)
    for chatty in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(job=arguments[0])
    return run(arguments[0], settings)


def run(job_id: str, settings: WorkerSettings, exported: Callable[[Path], object] = Path.exists) -> int:
    """Takes the job and sees it through; 0 when its row says how it went, or that another holds it."""
    terminated: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))
    database = open_database(settings.database)
    tracer = open_tracer("trainer", settings)
    try:
        ledger = JobLedger(database)
        try:
            attempt = ledger.take(job_id, _worker_name(), settings.lease_s)
        except NotFound:
            log.warning("training.unknown_job")
            return 0
        if attempt is None:
            log.info("training.not_to_be_run")
            return 0
        hand_over(attempt)
        blobs = BlobStore(settings.blobs)
        folders = FolderCache(blobs, settings.cache / "blobs", settings.artifact_cache_bytes)
        with Lease(ledger, attempt, settings.lease_s) as lease, contextlib.closing(folders):
            signal.signal(signal.SIGTERM, lambda *_: lease.terminate())
            if terminated:
                lease.terminate()
            span = tracer.start_attempt(attempt.job) if tracer else None
            reporter = Reporter(ledger, attempt, lease, span)
            context = Context(
                settings=settings,
                attempt=attempt,
                ledger=ledger,
                registry=ModelRegistry(database),
                shelf=DatasetRegistry(database),
                blobs=blobs,
                folders=folders,
                weights=WeightsStore(
                    settings.weights, settings.weights_url or None, settings.offline, reporter.download
                ),
                lease=lease,
                reporter=reporter,
                exported=exported,
            )
            sweep_work(context.work.parent, ledger, keep=job_id)
            bound((settings.cache / "pixels", settings.cache / "features"), settings.training_cache_bytes)
            return attempt_once(context)
    finally:
        database.close()
        if tracer:
            tracer.close()


def attempt_once(context: Context) -> int:
    """Runs the phases and writes how they ended."""
    ledger, attempt = context.ledger, context.attempt
    log.info("training.taken", kind=attempt.job.kind, attempt=attempt.job.attempt)
    try:
        # Said before torch is imported, which takes seconds.
        context.reporter.phase("preparing")
        result = phases_of(attempt.job.kind)(context)
        if context.lease.is_cancelled:
            ledger.cancelled(attempt, result)
        else:
            ledger.succeed(attempt, result)
        log.info("training.ended", model=result["model"], version=result["version"])
        context.reporter.close()
        clean_up(context)
    except Interrupted as interruption:
        context.reporter.close(interruption.reason)
        _end_interrupted(context, interruption)
    except LeaseLost as error:
        # Whoever holds the job now decides about it; this attempt's work is void.
        log.warning("training.lease_lost", reason=str(error))
        context.reporter.close("lease_lost")
    except Exception as error:  # noqa: BLE001  # whatever it is, the job's user shall learn that it happened
        _end_failed(context, error)
    return 0


def phases_of(kind: str) -> "Callable[[Context], dict[str, Any]]":
    """Imported here, after the job is taken, because torch takes seconds to import."""
    # OpenMP reads this when torch loads it. Threads that spin while they wait for each other slow a training down
    # tenfold where other processes want the same cores (measured: LeNet-5, 2 cores, a busy gateway).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if kind == JobKind.PUBLISH:
        from workers.training.publish import publish

        return publish
    from workers.training.finetune import finetune

    return finetune


def clean_up(context: Context) -> None:
    """The job has ended, so nobody will resume it."""
    shutil.rmtree(context.work, ignore_errors=True)
    with contextlib.suppress(StorageError):
        context.blobs.delete_prefix(context.checkpoint_prefix)


def _end_interrupted(context: Context, interruption: Interrupted) -> None:
    log.info("training.interrupted", reason=interruption.reason)
    if interruption.reason == CANCELLED:
        context.ledger.cancelled(context.attempt)
        clean_up(context)
    else:
        context.ledger.release(context.attempt)


def _end_failed(context: Context, error: Exception) -> None:
    failure = failure_of(error)
    context.reporter.close(failure.code)
    log.error("training.failed", code=failure.code, detail=failure.detail, exc_info=error)
    try:
        context.ledger.fail(context.attempt, failure.code, failure.detail, retry=failure.retry)
    except LeaseLost as lost:
        log.warning("training.lease_lost", reason=str(lost))
    if not failure.retry:
        clean_up(context)


def _worker_name() -> str:
    return os.environ.get(WORKER_VARIABLE) or f"trainer@{socket.gethostname()}:{os.getpid()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
