"""Durable jobs to their queue, and the reconciler that sends again what was lost. The database decides."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from storage.errors import StorageError
from storage.job import Job
from storage.jobs import JobLedger
from workers.contract import TASK_OF_JOB, JobKind, RunJob, encode

log = structlog.get_logger()


@dataclass
class JobDispatcher:
    """Sends messages that hold a job's id and nothing else."""

    celery: Celery
    ledger: JobLedger

    async def dispatch(self, job: Job) -> None:
        """Queue a job whose row is committed. If the broker is away the reconciler queues it later."""
        try:
            await asyncio.to_thread(self._send, job)
        except (OperationalError, OSError) as error:
            log.warning("job.not_sent", job=job.id, reason=str(error))

    async def reconcile(self, *, interval_s: float, requeue_after_s: float) -> None:
        """Send again every job whose message or worker was lost, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                for job in await asyncio.to_thread(self.ledger.to_requeue, requeue_after_s):
                    log.warning("job.requeued", job=job.id, kind=job.kind, attempt=job.attempt)
                    await self.dispatch(job)
            except StorageError as error:
                log.warning("reconciler.failed", reason=str(error))

    async def tidy(self, sweep: Callable[[], None], *, interval_s: float, keep: timedelta) -> None:
        """Forget jobs that ended longer than `keep` ago, and remove what killed writers left; until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.ledger.prune, keep)
                await asyncio.to_thread(sweep)
            except (StorageError, OSError) as error:
                log.warning("tidying.failed", reason=str(error))
            await asyncio.sleep(interval_s)

    def ping(self) -> dict[str, object]:
        """Whether the broker answers, and why not."""
        try:
            with self.celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=1)
        except (OperationalError, RedisError, OSError) as error:
            return {"ok": False, "reason": str(error)}
        return {"ok": True}

    def _send(self, job: Job) -> None:
        task = TASK_OF_JOB[JobKind(job.kind)]
        self.celery.send_task(task.value, (encode(RunJob(job.id)),))
        self.ledger.mark_dispatched(job.id)
