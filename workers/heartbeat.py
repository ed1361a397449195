"""A worker's sign of life in Redis, given by its consumer loop: a worker that stopped consuming falls silent."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from redis import Redis, RedisError

from workers.contract.messages import Heartbeat, encode
from workers.contract.queues import HEARTBEAT_PREFIX, WORKERS_KEY
from workers.draining import consumption_ended


def install_heartbeat(
    app: Celery, transit: Redis, beat: Callable[[], Heartbeat], *, interval_s: float, ttl_s: float
) -> None:
    """Have every consumer of `app` write `beat()` under `ttl_s`, until it takes no more messages."""
    is_leaving = False

    def say(_consumer: object = None) -> None:
        if is_leaving:
            return
        heartbeat = beat()
        try:
            beat_once(transit, heartbeat, ttl_s)
        except RedisError:
            # Nobody hears a worker that cannot reach Redis; the next beat tries again.
            return

    def fall_silent() -> None:
        try:
            name = beat().worker
            transit.delete(HEARTBEAT_PREFIX + name)
            transit.srem(WORKERS_KEY, name)
        except RedisError:
            return

    def leave(**_: object) -> None:
        nonlocal is_leaving
        is_leaving = True
        fall_silent()

    consumption_ended.connect(leave, weak=False)

    class HeartbeatStep(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            say()
            self.timer = consumer.timer.call_repeatedly(interval_s, say)

        def stop(self, _consumer: Any) -> None:
            fall_silent()
            timer = getattr(self, "timer", None)
            if timer:
                timer.cancel()

    app.steps["consumer"].add(HeartbeatStep)


def beat_once(transit: Redis, heartbeat: Heartbeat, ttl_s: float) -> None:
    """Both commands every time, for the server forgets everything when it restarts."""
    with transit.pipeline(transaction=False) as pipe:
        pipe.set(HEARTBEAT_PREFIX + heartbeat.worker, json.dumps(encode(heartbeat)), px=int(ttl_s * 1e3))
        pipe.sadd(WORKERS_KEY, heartbeat.worker)
        pipe.execute()


def free_bytes(folder: Path) -> int | None:
    """What is left on the disk of `folder`, which may not be made yet; None where nobody can tell."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
