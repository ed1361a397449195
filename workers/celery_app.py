"""The Celery application: where the queues are and how they behave. Knows no task's inside."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging
from kombu import Queue as KombuQueue
from pydantic import Field

from storage.settings import Settings
from system.garbage import collect_new_garbage
from workers.broker import tolerate_foreign_values
from workers.contract.queues import QUEUE_OF_TASK, Queue
from workers.draining import Draining
from workers.redis_url import kombu_broker

KEY_PREFIX = "fovea:queue:"
EX_FAILURE = 1
log = structlog.get_logger()


class QueueSettings(Settings):
    """The Redis servers, which may be one: what is queued must survive, what is in transit need not."""

    broker_url: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="Redis of the queues (append-only)."
    )
    transit_url: str = Field(
        "",
        repr=False,
        description="Redis of images, replies, heartbeats; several, with commas between; the broker's when empty.",
    )

    task_events: bool = Field(
        False, description="Tell Celery's events and take its commands, for Flower; costs messages for each task."
    )

    @property
    def transit(self) -> str:
        return self.transit_url or self.broker_url


def make_celery(
    broker_url: str,
    *,
    role: str = "gateway",
    visibility_timeout: timedelta = timedelta(seconds=60),
    events: bool = False,
) -> Celery:
    """An application bound to the broker at `broker_url`, in one of the forms of `workers.redis_url`.

    `role` keeps the unacknowledged messages of each class of worker apart: among applications that share them,
    the shortest visibility timeout would win for all. With `events` it can be watched by Celery's own tools.
    """
    broker, transport_options = kombu_broker(broker_url)
    app = Celery("fovea", broker=broker, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_queues=[KombuQueue(queue.value) for queue in Queue],
        task_routes={task.value: {"queue": queue.value} for task, queue in QUEUE_OF_TASK.items()},
        task_default_queue=Queue.BULK.value,
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=events,
        worker_send_task_events=events,
        task_send_sent_event=events,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=0,
        broker_pool_limit=4,
        # A publisher that cannot reach the broker must say so while its client still waits.
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.05, "interval_step": 0.2},
        broker_transport_options={
            "visibility_timeout": visibility_timeout.total_seconds(),
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # A broker that is silent for so long is away; no wait for a message is among what this bounds.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": not broker_url.startswith("unix:"),
            # A worker whose connection died without a word waits for messages on a new one after twice that.
            "health_check_interval": 5,
            "global_keyprefix": KEY_PREFIX,
            "unacked_key": f"unacked.{role}",
            "unacked_index_key": f"unacked_index.{role}",
            "unacked_mutex_key": f"unacked_mutex.{role}",
            **transport_options,
        },
    )
    return app


def run_consumer(
    app: Celery, name: str, queues: Sequence[str], slots: int, is_finished: Callable[[], bool] = lambda: True
) -> int:
    """Take messages from `queues`, `slots` at once in threads, until a signal; then finish those that run.

    It also waits until `is_finished`, for what does not come to it.

    Returns the process's exit code: 0 after a signal, else another, for Celery's consumer also ends when Redis
    refuses a command, as it does while its disk is full.
    """
    tolerate_foreign_values(app)
    Draining(is_finished).install(app)
    # With a receiver of its own Celery leaves the process's logging alone.
    setup_logging.connect(_keep_logging)
    # At a signal Celery writes a word to this file first. Where nobody reads it any more, as when `fovea up` was
    # killed, that raises, and the worker would not hear the signal: it would work on beside its successor.
    sys.__stdout__ = None  # type: ignore[misc]
    # Of a message that goes back to its queue Celery would print a traceback.
    logging.getLogger("celery.app.trace").addFilter(_is_no_rejection)
    # Celery warns root of pickled messages; none are accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = app.Worker(
        hostname=name,
        queues=list(queues),
        pool="threads",
        concurrency=slots,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not app.conf.worker_send_task_events,
        quiet=True,
    )
    collect_new_garbage()
    worker.start()
    # None: it ended, and nobody told it to.
    exit_code = EX_FAILURE if worker.exitcode is None else int(worker.exitcode)
    if exit_code:
        log.critical("worker.ended", exit_code=exit_code, reason="Celery's consumer ended; its error stands above")
    return exit_code


def _is_no_rejection(record: logging.LogRecord) -> bool:
    return getattr(record, "data", {}).get("description") != "rejected"


def _keep_logging(**_: object) -> None:
    return None
