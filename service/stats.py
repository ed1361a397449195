"""What waits in queues, which states jobs are in, how full the disk is: counted when Prometheus asks.

Counted in threads and remembered for seconds: a scrape neither blocks the event loop nor loads the database,
however many scrape and however large the ledger is.
"""

import asyncio
import base64
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from cachetools import TTLCache
from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from service.drift import DriftFigure, DriftWatch
from storage.errors import StorageError
from storage.job import JobCount, JobState
from storage.job_ledger import JobLedger
from storage.outbox import Outbox
from workers.celery_app import KEY_PREFIX
from workers.contract.queues import QUEUE_OF_TASK, TASK_OF_JOB, Queue

QUEUE_OF_KIND = {kind.value: QUEUE_OF_TASK[task] for kind, task in TASK_OF_JOB.items()}
CACHE_S = 10.0
TIMEOUT_S = 3.0
# Sketches are added up anew each time.
DRIFT_CACHE_S = 60.0
Value = TypeVar("Value")
log = structlog.get_logger()


class Backlog(NamedTuple):
    """Messages in the broker, and for how many seconds the oldest interactive one has waited there."""

    lengths: Mapping[Queue, int]
    interactive_s: float


class Disk(NamedTuple):
    """In bytes."""

    total: int
    free: int


@dataclass(frozen=True)
class QueueStats:
    """None where the database, the broker or the disk did not answer in time."""

    jobs: tuple[JobCount, ...] | None
    backlog: Backlog | None
    disk: Disk | None
    webhooks_oldest_s: float | None = None
    drift: tuple[DriftFigure, ...] | None = None

    def ages_s(self) -> dict[Queue, float]:
        """How long the oldest waits, by queue: a message of the interactive one, a queued job of the others."""
        ages = {} if self.backlog is None else {Queue.INTERACTIVE: self.backlog.interactive_s}
        if self.jobs is None:
            return ages
        ages |= {Queue.BULK: 0.0, Queue.TRAINING: 0.0}
        for count in self.jobs:
            queue = QUEUE_OF_KIND.get(count.kind)
            if queue and count.state is JobState.QUEUED:
                ages[queue] = max(ages[queue], count.oldest_s)
        return ages


class CachedProbe(Generic[Value]):
    """A slow question, asked in a thread by one caller at a time; its answer is kept for `cache_s`.

    A caller waits `timeout_s` at most and gets None then; the question goes on, and later callers get its answer.
    """

    def __init__(self, ask: Callable[[], Value], *, cache_s: float, timeout_s: float) -> None:
        self._ask = ask
        self._timeout_s = timeout_s
        self._cache: TTLCache[str, Value] = TTLCache(maxsize=1, ttl=cache_s)
        self._under_way: asyncio.Task[Value] | None = None

    async def __call__(self) -> Value | None:
        if self._under_way is None:
            with suppress(KeyError):
                return self._cache["value"]
            self._under_way = asyncio.create_task(self._asked())
        asking = self._under_way
        done, _ = await asyncio.wait([asking], timeout=self._timeout_s)
        return asking.result() if done else None

    async def _asked(self) -> Value:
        try:
            value = self._cache["value"] = await asyncio.to_thread(self._ask)
            return value
        finally:
            self._under_way = None


class StatsCollector:
    """Counts in the database, the broker and on the disk that `data` lies on."""

    def __init__(
        self,
        ledger: JobLedger,
        celery: Celery,
        data: Path,
        outbox: Outbox,
        drift: DriftWatch,
        *,
        cache_s: float = CACHE_S,
        timeout_s: float = TIMEOUT_S,
        drift_cache_s: float = DRIFT_CACHE_S,
    ) -> None:
        self._jobs = CachedProbe(lambda: _jobs(ledger), cache_s=cache_s, timeout_s=timeout_s)
        self._backlog = CachedProbe(lambda: _backlog(celery), cache_s=cache_s, timeout_s=timeout_s)
        self._disk = CachedProbe(lambda: _disk(data), cache_s=cache_s, timeout_s=timeout_s)
        self._webhooks = CachedProbe(lambda: _oldest_s(outbox), cache_s=cache_s, timeout_s=timeout_s)
        self._drift = CachedProbe(drift.figures, cache_s=drift_cache_s, timeout_s=timeout_s)

    async def collect(self) -> QueueStats:
        asked = (self._jobs(), self._backlog(), self._disk(), self._webhooks(), self._drift())
        return QueueStats(*await asyncio.gather(*asked))


def _jobs(ledger: JobLedger) -> tuple[JobCount, ...] | None:
    try:
        return ledger.count()
    except StorageError as error:
        log.warning("stats.database_unavailable", reason=str(error))
        return None


def _oldest_s(outbox: Outbox) -> float | None:
    try:
        return outbox.oldest_s()
    except StorageError as error:
        log.warning("stats.database_unavailable", reason=str(error))
        return None


def _backlog(celery: Celery) -> Backlog | None:
    try:
        with celery.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            channel: Any = connection.default_channel
            # kombu puts its key prefix before the key of LLEN, but not of LINDEX.
            lengths = {queue: int(channel.client.llen(queue.value)) for queue in Queue}
            oldest = channel.client.lindex(KEY_PREFIX + Queue.INTERACTIVE.value, -1)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("stats.broker_unavailable", reason=str(error))
        return None
    return Backlog(lengths, 0.0 if oldest is None else _age_s(oldest))


def _age_s(message: bytes | str) -> float:
    """How long ago a `ClassifyBatch` was sent; 0 for one that cannot be read, which the worker will report."""
    try:
        (payload,), *_ = json.loads(base64.b64decode(json.loads(message)["body"]))
        return max(0.0, time.time() - float(payload["sent_at"]))
    except (ValueError, KeyError, TypeError):
        return 0.0


def _disk(folder: Path) -> Disk | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        log.warning("stats.disk_unavailable", folder=str(folder), reason=str(error))
        return None
    return Disk(usage.total, usage.free)
