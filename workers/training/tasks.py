"""Celery's side of training: a message names a job, a process of its own does it."""

from typing import Any

from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_ready, worker_shutting_down

from storage.database import open_database
from storage.job_ledger import JobLedger
from workers.contract.messages import RunJob, read_message
from workers.contract.queues import TaskName
from workers.settings import WorkerSettings
from workers.training.cleanup import work_folder
from workers.training.process import TrainingProcesses


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

    worker_ready.connect(lambda **_: processes.be_ready(), weak=False)
    # Celery's warm shutdown waits for the task, which waits for the process, which has to be told.
    worker_shutting_down.connect(lambda **_: processes.stop(), weak=False)
