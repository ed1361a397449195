"""Celery's side of training: a message names a job, a process of its own does it."""

from typing import Any

import structlog
from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_ready, worker_shutting_down
from kombu.exceptions import OperationalError

from storage.database import open_database
from storage.errors import StorageError
from storage.job import JobState
from storage.job_ledger import JobLedger
from workers.contract.messages import RunJob, encode, read_message
from workers.contract.queues import TaskName
from workers.settings import WorkerSettings
from workers.training.cleanup import work_folder
from workers.training.process import TrainingProcesses

log = structlog.get_logger()


def register(app: Celery, settings: WorkerSettings, worker: str) -> None:
    """Have `app` run training jobs, one at a time, and stop the running one when the worker shuts down."""
    ledger = JobLedger(open_database(settings.database))
    processes = TrainingProcesses(
        ledger, worker, settings.lease_s, work_folder(settings.data), spare=settings.spare_trainer
    )

    @app.task(name=TaskName.RUN_TRAINING_JOB.value, ignore_result=True, shared=False)
    def run_job(payload: Any) -> None:
        if message := read_message(RunJob, payload):
            processes.run(message.job)
            if processes.is_stopping:
                # Given back or not begun: another worker is to have it at once. One that has ended it will let be.
                raise Reject(requeue=True)
            send_follow_up(app, ledger, message.job)

    worker_ready.connect(lambda **_: processes.be_ready(), weak=False)
    # Celery's warm shutdown waits for the task, which waits for the process, which has to be told.
    worker_shutting_down.connect(lambda **_: processes.stop(), weak=False)


def send_follow_up(app: Celery, ledger: JobLedger, job_id: str) -> None:
    """Queue the job that this one has left behind, if any; where that fails, the gateway's reconciler does it."""
    try:
        left = (ledger.get(job_id).result or {}).get("variants_job")
        if left and ledger.get(left).state is JobState.QUEUED:
            app.send_task(TaskName.RUN_TRAINING_JOB.value, (encode(RunJob(left)),))
            ledger.mark_dispatched(left)
    except (StorageError, OperationalError, OSError) as error:
        log.warning("training.follow_up_not_sent", job=job_id, reason=str(error))
