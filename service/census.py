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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from storage.errors import StorageError
from storage.job import JobCount, JobState
from storage.jobs import JobLedger
from workers.celery_app import KEY_PREFIX
from workers.contract import QUEUE_OF_TASK, TASK_OF_JOB, Queue

QUEUE_OF_KIND = {kind.value: QUEUE_OF_TASK[task] for kind, task in TASK_OF_JOB.items()}
REMEMBERED_S = 10.0
PATIENCE_S = 3.0
Found = TypeVar("Found")
log = structlog.get_logger()


class Backlog(NamedTuple):
    """Messages in the broker, and how long the oldest interactive one has waited there."""

    lengths: Mapping[Queue, int]
    interactive_s: float


class Disk(NamedTuple):
    total: int
    free: int


@dataclass(frozen=True)
class Census:
    """None where the database, the broker or the disk did not answer in time."""

    jobs: tuple[JobCount, ...] | None
    backlog: Backlog | None
    disk: Disk | None

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


@dataclass
class Look(Generic[Found]):
    """Something that takes long to find out, found out in a thread, one at a time, and remembered.

    Whoever asks waits `patience_s` at most; a look that hangs goes on alone, and the answer is None meanwhile.
    """

    find: Callable[[], Found]
    _found: Found | None = field(default=None, init=False)
    _until: float = field(default=0.0, init=False)
    _under_way: asyncio.Task[None] | None = field(default=None, init=False)

    async def __call__(self, remember_s: float, patience_s: float) -> Found | None:
        if self._under_way is None:
            if time.monotonic() < self._until:
                return self._found
            self._under_way = asyncio.create_task(self._look(remember_s))
        done, _ = await asyncio.wait([self._under_way], timeout=patience_s)
        return self._found if done else None

    async def _look(self, remember_s: float) -> None:
        try:
            self._found = await asyncio.to_thread(self.find)
            self._until = time.monotonic() + remember_s
        finally:
            self._under_way = None


class Registrar:
    """Takes the census."""

    def __init__(
        self,
        ledger: JobLedger,
        celery: Celery,
        data: Path,
        *,
        remember_s: float = REMEMBERED_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._times = remember_s, patience_s
        self._jobs = Look(lambda: _jobs(ledger))
        self._backlog = Look(lambda: _backlog(celery))
        self._disk = Look(lambda: _disk(data))

    async def census(self) -> Census:
        looks = (self._jobs(*self._times), self._backlog(*self._times), self._disk(*self._times))
        return Census(*await asyncio.gather(*looks))


def _jobs(ledger: JobLedger) -> tuple[JobCount, ...] | None:
    try:
        return ledger.count()
    except StorageError as error:
        log.warning("census.without_database", reason=str(error))
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
        log.warning("census.without_broker", reason=str(error))
        return None
    return Backlog(lengths, 0.0 if oldest is None else _age_s(oldest))


def _age_s(message: bytes | str) -> float:
    """How long ago a `ClassifyBatch` was sent; 0 for one that cannot be read, which the worker will tell."""
    try:
        (payload,), *_ = json.loads(base64.b64decode(json.loads(message)["body"]))
        return max(0.0, time.time() - float(payload["sent_at"]))
    except (ValueError, KeyError, TypeError):
        return 0.0


def _disk(folder: Path) -> Disk | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        log.warning("census.without_disk", folder=str(folder), reason=str(error))
        return None
    return Disk(usage.total, usage.free)
