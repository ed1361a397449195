"""The bulk process of an inference worker: `python -m workers.inference.bulk WORKER`. Imports no torch.

Ingests, revisions of datasets, asynchronous and bulk classifications and evaluations, at low priority. The worker
that started it speaks for it in its heartbeat.
"""

import workers.lean  # noqa: F401 - first: what follows imports the libraries that it trims

# isort: split
import sys

import structlog

from storage.blobs import BlobStore
from storage.database import open_database
from storage.datasets import DatasetRegistry
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry
from system.priority import BULK_NICENESS, stand_back
from system.scratch import remove_old, sweep_scratch
from workers.celery_app import make_celery, run_consumer
from workers.contract.queues import JobKind, Queue
from workers.inference.classify import ClassifyJob
from workers.inference.classify_many import ClassifyManyJob
from workers.inference.evaluate import EvaluateJob
from workers.inference.ingest import IngestJob
from workers.inference.job_runner import InferenceJobs
from workers.inference.quarantine import Quarantine
from workers.inference.revise import ReviseJob
from workers.inference.serving import bulk_memory, open_engine
from workers.inference.tasks import register_jobs
from workers.jobs.attempt import JobFunction
from workers.logs import configure_logging
from workers.settings import WorkerSettings
from workers.traces import open_tracer
from workers.transit import Transit

OLD_S = 24 * 3600
# Jobs at once, so that a short one need not wait for a long one to end.
SLOTS = 2
log = structlog.get_logger()
QUEUES = (Queue.BULK.value,)


def main(worker: str) -> int:
    """Work until SIGTERM; the process's exit code. Its parent has found the settings to be usable."""
    settings = WorkerSettings()
    configure_logging("bulk", form=settings.log_format, level=settings.log_level)
    tracer = open_tracer("inference", settings)
    blobs = BlobStore(settings.blobs)
    quarantine = Quarantine(Transit.open(settings.transit), f"bulk-{worker}")
    engine = open_engine(settings, blobs, bulk_memory(settings), quarantine)
    scratch = settings.cache / "ingest"
    sweep_scratch(scratch)
    # Of the first release, which did not lock its folders.
    remove_old(scratch, "ingest-*", OLD_S)
    database = open_database(settings.database)
    registry, datasets = ModelRegistry(database), DatasetRegistry(database)
    functions: dict[str, JobFunction] = {
        JobKind.CLASSIFY: ClassifyJob(registry, blobs, engine),
        JobKind.CLASSIFY_MANY: ClassifyManyJob(registry, datasets, blobs, engine),
        JobKind.EVALUATE: EvaluateJob(registry, datasets, blobs, engine, settings.cache),
        JobKind.INGEST: IngestJob(datasets, blobs, scratch),
        JobKind.REVISE: ReviseJob(datasets, blobs, scratch),
    }
    app = make_celery(settings.broker_url, role="inference", events=settings.task_events)
    register_jobs(app, InferenceJobs(JobLedger(database), functions, worker, settings.lease_s, tracer))
    log.info("bulk.starting", worker=worker)
    # From here on less than what it was started with. Its threads inherit it.
    stand_back(BULK_NICENESS)
    try:
        return run_consumer(app, f"bulk-{worker}", QUEUES, SLOTS)
    finally:
        engine.close()
        database.close()
        if tracer:
            tracer.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
