"""Celery's side of training: a message names a job, a process of its own does it."""

from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down

from storage.database import open_database
from storage.jobs import JobLedger
from workers.contract import RunJob, TaskName, decode
from workers.settings import WorkerSettings
from workers.training.supervisor import Supervisor


def register(app: Celery, settings: WorkerSettings, worker: str) -> Supervisor:
    """Have `app` run training jobs, one at a time, and stop the running one when the worker shuts down."""
    supervisor = Supervisor(lambda: JobLedger(open_database(settings.database)), worker)

    @app.task(name=TaskName.RUN_TRAINING_JOB.value, ignore_result=True)
    def run_job(payload: dict[str, Any]) -> None:
        supervisor.run(decode(RunJob, payload).job)

    # Celery's warm shutdown waits for the task, which waits for the trainer, which has to be told.
    worker_shutting_down.connect(lambda **_: supervisor.stop(), weak=False)
    return supervisor
