"""The inference worker's process: `python -m workers.inference.main`. Imports no torch."""

import os
import socket
import sys
import time
from uuid import uuid4

import structlog

from models.artifact import checksums
from models.devices import resolve
from models.errors import DeviceUnavailable
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.database import open_database
from storage.datasets import DatasetRegistry
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry
from system.scratch import remove_old, sweep_scratch
from workers.celery_app import make_celery, run_consumer
from workers.contract.messages import Heartbeat
from workers.contract.queues import JobKind, Queue
from workers.heartbeat import free_bytes, install_heartbeat
from workers.inference.classify import ClassifyJob
from workers.inference.engine import Engine
from workers.inference.ingest import IngestJob
from workers.inference.job_runner import InferenceJobs
from workers.inference.loader import predictor_loader
from workers.inference.quarantine import Quarantine
from workers.inference.tasks import register_batches, register_jobs
from workers.jobs.attempt import JobFunction
from workers.logs import configure_logging
from workers.redis_url import InvalidRedisUrl, check, connect
from workers.settings import WorkerSettings
from workers.traces import Tracer, TracingUnavailable, open_tracer

OLD_S = 24 * 3600
log = structlog.get_logger()
QUEUES = (Queue.INTERACTIVE.value, Queue.BULK.value)


def main() -> int:
    settings = WorkerSettings()
    configure_logging("inference", form=settings.log_format, level=settings.log_level)
    try:
        check(settings.broker_url, settings.transit)
        provider = resolve(settings.device)[0]
        tracer = open_tracer("inference", settings)
    except (InvalidRedisUrl, DeviceUnavailable, TracingUnavailable) as error:
        log.error("worker.refused", reason=str(error))
        return 2
    return run_worker(settings, provider, tracer)


def run_worker(settings: WorkerSettings, provider: str, tracer: Tracer | None) -> int:
    """Serve until SIGTERM; the process's exit code."""
    worker = f"inference@{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
    transit = connect(settings.transit, socket_timeout=10, socket_connect_timeout=3, health_check_interval=15)
    quarantine = Quarantine(transit, worker)
    blobs = BlobStore(settings.blobs)
    folders = FolderCache(blobs, settings.cache / "blobs", settings.artifact_cache_bytes)
    engine = Engine(
        load=predictor_loader(
            lambda artifact: folders.hold(artifact, checksums),
            device=settings.device,
            intra_op_threads=settings.intra_op_threads,
            cuda_memory_bytes=settings.cuda_memory_bytes,
            quarantine=quarantine,
        ),
        concurrency=settings.concurrent_inferences,
        memory_budget=settings.model_memory_bytes,
        max_pixels=settings.max_pixels,
    )
    scratch = settings.cache / "ingest"
    sweep_scratch(scratch)
    # Of the first release, which did not lock its folders.
    remove_old(scratch, "ingest-*", OLD_S)
    database = open_database(settings.database)
    # Each message is shared by all cores. One more is worked on while a reply travels; with more than that,
    # batches would be smaller and their fixed costs weigh more.
    slots = max(2, settings.concurrent_inferences)

    app = make_celery(settings.broker_url, role="inference", events=settings.task_events)
    register_batches(app, engine, quarantine, worker, tracer)
    functions: dict[str, JobFunction] = {
        JobKind.CLASSIFY: ClassifyJob(ModelRegistry(database), blobs, engine),
        JobKind.INGEST: IngestJob(DatasetRegistry(database), blobs, scratch),
    }
    register_jobs(app, InferenceJobs(JobLedger(database), functions, worker, settings.lease_s, tracer))
    started_at = time.time()
    install_heartbeat(
        app,
        transit,
        lambda: Heartbeat(
            worker,
            QUEUES,
            slots,
            settings.device,
            engine.providers() or (provider,),
            engine.loaded(),
            started_at,
            free_bytes(settings.data),
        ),
        interval_s=settings.heartbeat_interval_s,
        ttl_s=settings.heartbeat_ttl_s,
        late_s=settings.heartbeat_late_s,
    )
    quarantine.suspect_the_hands_of_the_dead()
    log.info("worker.starting", worker=worker, provider=provider, slots=slots)
    try:
        # One more than gateways are told of: for what is costly, of which each has a message under way at most.
        return run_consumer(app, worker, QUEUES, slots + 1)
    finally:
        engine.close()
        database.close()
        if tracer:
            tracer.close()


if __name__ == "__main__":
    sys.exit(main())
