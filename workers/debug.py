"""The application for Celery's own tools: `celery --app workers.debug flower` (or `inspect ping`).

They see the queues at any time, workers and tasks only of processes that run with `FOVEA_TASK_EVENTS`.
"""

from workers.celery_app import QueueSettings, make_celery

app = make_celery(QueueSettings().broker_url, role="debug", events=True)
