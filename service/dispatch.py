"""Durable jobs to their queue, and the reconciler that sends again what was lost. The database decides."""

import asyncio
import base64
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from storage.errors import StorageError
from storage.job import Job, JobState
from storage.job_ledger import JobLedger
from workers.celery_app import KEY_PREFIX
from workers.contract.messages import RunJob, encode
from workers.contract.queues import TASK_OF_JOB, JobKind, Queue

JOB_QUEUES = (Queue.BULK, Queue.TRAINING)
WORKER_ROLES = ("inference", "training")
# How long a job that waited for a dataset goes on waiting for nothing.
RELEASE_EVERY_S = 1.0
log = structlog.get_logger()


class JobMessages(NamedTuple):
    """The ids of jobs that have a message: in a queue, or with a worker that has not acknowledged it yet."""

    queued: frozenset[str]
    delivered: frozenset[str]

    def will_reach(self, job: Job) -> bool:
        """Whether a worker will read a message of the job without another one being sent.

        One that was delivered when its worker fell silent comes back only after the visibility timeout.
        """
        return job.id in self.queued or (job.state is JobState.QUEUED and job.id in self.delivered)


@dataclass
class JobDispatcher:
    """Sends messages that hold a job's id and nothing else.

    `served()` names the kinds of jobs that this cell's workers do, None where nobody knows. Several cells share
    one ledger: one that has no worker for a job, or whose broker is away, leaves the job to the reconcilers of
    the others.

    A broker behind a dead connection says neither yes nor no for long: after `patience_s` the client has its
    answer without it. Such a wait is in a thread of the dispatcher's own, for the gateway's are for the database.
    """

    celery: Celery
    ledger: JobLedger
    patience_s: float = 3.0
    served: Callable[[], Collection[str] | None] = lambda: None

    def __post_init__(self) -> None:
        self._senders = ThreadPoolExecutor(2, thread_name_prefix="dispatch")

    async def dispatch(self, job: Job) -> None:
        """Queue a job whose row is committed, unless it waits for a dataset.

        If the broker is away the reconciler queues it later.
        """
        if job.waits_for:
            return
        try:
            async with asyncio.timeout(self.patience_s):
                await asyncio.get_running_loop().run_in_executor(self._senders, self._send, job)
        except TimeoutError:
            log.warning("job.not_sent", job=job.id, reason=f"the broker is silent for {self.patience_s:g} s")
        except (OperationalError, OSError) as error:
            log.warning("job.not_sent", job=job.id, reason=str(error))
        except StorageError as error:
            # The message is sent; the reconciler sees that it is there.
            log.warning("job.dispatch_not_recorded", job=job.id, reason=str(error))

    async def release(self, interval_s: float = RELEASE_EVERY_S) -> None:
        """Send the jobs whose dataset's check is over, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.release_once()
            except StorageError as error:
                log.warning("reconciler.failed", reason=str(error))

    async def release_once(self) -> None:
        """One round. Each is sent as if it had just been asked for here. Raises StorageError."""
        for job in await asyncio.to_thread(self.ledger.release_waiting):
            log.info("job.released", job=job.id, kind=job.kind, dataset=job.request.get("dataset"))
            if job.kind in TASK_OF_JOB:
                await self.dispatch(job)

    async def reconcile(self, *, interval_s: float, requeue_after_s: float) -> None:
        """Send again every job whose message or worker was lost, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.reconcile_once(requeue_after_s)
            except (StorageError, OperationalError, RedisError, OSError) as error:
                log.warning("reconciler.failed", reason=str(error))

    async def reconcile_once(self, requeue_after_s: float) -> None:
        """One round. Raises StorageError, and what the broker raises when it cannot be asked."""
        broker = await asyncio.to_thread(self.ping)
        kinds = self.served() if broker["ok"] else ()
        jobs = await asyncio.to_thread(self.ledger.to_requeue, requeue_after_s, kinds)
        if not broker["ok"]:
            raise OperationalError(broker["reason"])
        if not jobs:
            return
        # A job that only waits long would otherwise get one message more in every round.
        messages = await asyncio.to_thread(job_messages, self.celery)
        for job in jobs:
            if job.kind not in TASK_OF_JOB:
                # A later release's, which runs beside this one; its own gateway sends it.
                log.warning("job.unknown_kind", job=job.id, kind=job.kind)
                continue
            if messages.will_reach(job):
                log.debug("job.waits", job=job.id)
                continue
            log.warning("job.requeued", job=job.id, kind=job.kind, attempt=job.attempt)
            await self.dispatch(job)

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


def job_messages(celery: Celery) -> JobMessages:
    """The jobs' messages in the broker. Raises OperationalError, RedisError or OSError when it does not answer."""
    with celery.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=1)
        # kombu puts its key prefix before the keys of the commands that it uses itself, and these are others.
        channel: Any = connection.default_channel
        client = channel.client
        queued = [message for queue in JOB_QUEUES for message in client.lrange(KEY_PREFIX + queue.value, 0, -1)]
        # Each is `[message, exchange, routing key]`.
        delivered = [
            json.dumps(json.loads(entry)[0])
            for role in WORKER_ROLES
            for entry in client.hvals(f"{KEY_PREFIX}unacked.{role}")
        ]
    return JobMessages(frozenset(_job_ids(queued)), frozenset(_job_ids(delivered)))


def _job_ids(messages: Iterable[bytes | str]) -> Iterator[str]:
    """The jobs of those messages that are `RunJob`; what cannot be read is for the worker to tell."""
    for message in messages:
        try:
            (payload, *_), *_ = json.loads(base64.b64decode(json.loads(message)["body"]))
            yield payload["job"]
        except (ValueError, KeyError, TypeError):
            continue
