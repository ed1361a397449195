"""The inference worker's process: `python -m workers.inference.main`. Imports no torch.

It classifies the images that somebody waits for; jobs are done in a process of their own beside it.
"""

import workers.lean  # noqa: F401 - first: what follows imports the libraries that it trims

# isort: split
import os
import socket
import sys
import time
from uuid import uuid4

import structlog
from celery.signals import worker_ready, worker_shutting_down

from models.devices import resolve
from models.errors import DeviceUnavailable
from storage.blobs import BlobStore
from storage.errors import InvalidSettings, StorageError
from storage.places import check_places
from workers.celery_app import make_celery, run_consumer
from workers.contract.messages import Heartbeat
from workers.contract.queues import Queue
from workers.heartbeat import free_bytes, install_heartbeat
from workers.inference.batch_consumer import BatchConsumer
from workers.inference.bulk_process import BulkProcess
from workers.inference.quarantine import Quarantine
from workers.inference.serving import bulk_memory, open_engine
from workers.inference.tasks import register_batches
from workers.logs import configure_logging, refuse
from workers.redis_url import InvalidRedisUrl, check
from workers.settings import WorkerSettings
from workers.traces import Tracer, TracingUnavailable, open_tracer
from workers.transit import Transit, transit_servers

log = structlog.get_logger()
OWN_QUEUES = (Queue.INTERACTIVE.value,)
# What its heartbeat speaks for: the bulk process belongs to this worker and is started again by it.
QUEUES = (Queue.INTERACTIVE.value, Queue.BULK.value)


def main() -> int:
    try:
        settings = WorkerSettings()
    except InvalidSettings as error:
        return refuse("inference", error)
    configure_logging("inference", form=settings.log_format, level=settings.log_level)
    try:
        check_places(settings)
        check(settings.broker_url)
        transit_servers(settings.transit)
        provider = resolve(settings.device)[0]
        tracer = open_tracer("inference", settings)
    except (StorageError, InvalidRedisUrl, DeviceUnavailable, TracingUnavailable) as error:
        log.error("worker.refused", reason=str(error))
        return 2
    return run_worker(settings, provider, tracer)


def run_worker(settings: WorkerSettings, provider: str, tracer: Tracer | None) -> int:
    """Serve until SIGTERM; the process's exit code."""
    worker = f"inference@{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
    quarantine = Quarantine(Transit.open(settings.transit), worker)
    memory = settings.model_memory_bytes - bulk_memory(settings)
    engine = open_engine(settings, BlobStore(settings.blobs), memory, quarantine, sketches=settings.drift)
    # Of small messages each core has one, and one more is at hand when a reply leaves; with more than that,
    # batches would be smaller and their fixed costs weigh more.
    slots = settings.concurrent_inferences + 1

    app = make_celery(settings.broker_url, role="inference", events=settings.task_events)
    handle = register_batches(app, engine, quarantine, worker, tracer)
    # One more than gateways are told of: for what is costly, of which each has one message under way.
    batches = BatchConsumer(settings.broker_url, handle, slots + 1)
    if not settings.task_events:
        batches.install(app)
    started_at = time.time()

    def beat() -> Heartbeat | None:
        if not batches.is_connected:
            return None
        return Heartbeat(
            worker,
            QUEUES,
            slots,
            settings.device,
            engine.models.providers() or (provider,),
            engine.models.artifacts(),
            started_at,
            free_bytes(settings.data),
        )

    install_heartbeat(
        app,
        [server.url for server in transit_servers(settings.transit)],
        beat,
        interval_s=settings.heartbeat_interval_s,
        ttl_s=settings.heartbeat_ttl_s,
        late_s=settings.heartbeat_late_s,
    )
    quarantine.suspect_the_hands_of_the_dead()
    log.info("worker.starting", worker=worker, provider=provider, slots=slots)
    try:
        with BulkProcess(worker) as bulk:
            # It imports for half a second: on few cores the worker and what starts beside it come first.
            worker_ready.connect(lambda **_: bulk.start(), weak=False)
            # Celery's warm shutdown waits for the batches at hand; the jobs can be given back meanwhile.
            worker_shutting_down.connect(lambda **_: bulk.stop(), weak=False)
            return run_consumer(app, worker, OWN_QUEUES, slots + 1, lambda: batches.is_finished)
    finally:
        batches.close()
        engine.close()
        if tracer:
            tracer.close()


if __name__ == "__main__":
    sys.exit(main())
