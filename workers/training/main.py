"""The training worker's process: `python -m workers.training.main`. Training itself runs in a child of it."""

import workers.lean  # noqa: F401 - first: what follows imports the libraries that it trims

# isort: split
import contextlib
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import structlog

from storage.errors import InvalidSettings, StorageError
from storage.places import check_places
from system.scratch import remove_old
from workers.celery_app import make_celery, run_consumer
from workers.contract.messages import Heartbeat
from workers.contract.queues import Queue
from workers.heartbeat import free_bytes, install_heartbeat
from workers.logs import configure_logging, refuse
from workers.redis_url import InvalidRedisUrl, check
from workers.settings import WorkerSettings
from workers.traces import TracingUnavailable, open_tracer
from workers.training.tasks import register
from workers.transit import transit_servers

log = structlog.get_logger()
QUEUES = (Queue.TRAINING.value,)
OLD_S = 24 * 3600


def main() -> int:
    try:
        settings = WorkerSettings()
    except InvalidSettings as error:
        return refuse("training", error)
    configure_logging("training", form=settings.log_format, level=settings.log_level)
    worker = f"training@{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
    try:
        check_places(settings)
        check(settings.broker_url)
        servers = transit_servers(settings.transit)
        # The trainers make the spans; a setting that cannot work is told now, not by each of them.
        tracer = open_tracer("training", settings)
    except (StorageError, InvalidRedisUrl, TracingUnavailable) as error:
        log.error("worker.refused", reason=str(error))
        return 2
    if tracer:
        tracer.close()
    with contextlib.suppress(OSError):
        # Of the first release, which handed jobs over in such folders.
        remove_old(Path(tempfile.gettempdir()), "fovea-trainer-*", OLD_S)
    app = make_celery(settings.broker_url, role="training", events=settings.task_events)
    register(app, settings, worker)
    started_at = time.time()
    install_heartbeat(
        app,
        [server.url for server in servers],
        lambda: Heartbeat(
            worker,
            QUEUES,
            1,
            settings.training_device,
            started_at=started_at,
            disk_free_bytes=free_bytes(settings.data),
        ),
        interval_s=settings.heartbeat_interval_s,
        ttl_s=settings.heartbeat_ttl_s,
        late_s=settings.heartbeat_late_s,
    )
    log.info("worker.starting", worker=worker)
    return run_consumer(app, worker, QUEUES, 1)


if __name__ == "__main__":
    sys.exit(main())
