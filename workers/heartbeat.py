"""A worker's sign of life in Redis, given by its consumer loop: a worker that stopped consuming falls silent.

It has two parts. What is said counts for a moment, so that a worker that died is soon missed. On a machine that is
too busy to let it speak it is late; then it still counts as long as its process holds a subscription, which ends
with the process, and has spoken within a longer time, which a worker that hangs has not.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, bootsteps
from redis import Redis, RedisError, ResponseError
from redis.client import PubSub

from workers.contract.messages import Heartbeat, encode
from workers.contract.queues import ALIVE_PREFIX, HEARTBEAT_PREFIX, LATE_PREFIX, WORKERS_KEY
from workers.draining import consumption_ended
from workers.redis_url import connect_for_heartbeats

log = structlog.get_logger()


def install_heartbeat(
    app: Celery,
    url: str,
    beat: Callable[[], Heartbeat],
    *,
    interval_s: float,
    ttl_s: float,
    late_s: float,
) -> None:
    """Have every consumer of `app` write `beat()` to the Redis at `url`, and take it back when it stops.

    It counts for `ttl_s`, and for `late_s` as long as the process lives.

    One that is told to end has no slots from then on, until it has finished the messages that it holds.
    """
    name = beat().worker
    transit = connect_for_heartbeats(url)
    alive: PubSub = transit.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    is_leaving = False

    def say(_consumer: object = None) -> None:
        heartbeat = beat()
        if is_leaving:
            # What it holds it still answers, and nobody is to send it more.
            heartbeat = replace(heartbeat, slots=0)
        # Nobody hears a worker that cannot reach Redis; the next beat tries again.
        with suppress(RedisError):
            beat_once(transit, heartbeat, ttl_s, late_s)
        with suppress(RedisError):
            hold_on(alive, name)

    def fall_silent() -> None:
        with suppress(RedisError):
            transit.delete(HEARTBEAT_PREFIX + name, LATE_PREFIX + name)
            transit.srem(WORKERS_KEY, name)

    def leave(**_: object) -> None:
        nonlocal is_leaving
        is_leaving = True
        say()

    consumption_ended.connect(leave, weak=False)

    class HeartbeatStep(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            say()
            self.timer = consumer.timer.call_repeatedly(interval_s, say)

        def stop(self, _consumer: Any) -> None:
            fall_silent()
            with suppress(RedisError):
                alive.close()
            timer = getattr(self, "timer", None)
            if timer:
                timer.cancel()

    app.steps["consumer"].add(HeartbeatStep)


def beat_once(transit: Redis, heartbeat: Heartbeat, ttl_s: float, late_s: float = 0) -> None:
    """All commands every time, for the server forgets everything when it restarts."""
    said = json.dumps(encode(heartbeat))
    with transit.pipeline(transaction=False) as pipe:
        pipe.sadd(WORKERS_KEY, heartbeat.worker)
        pipe.set(HEARTBEAT_PREFIX + heartbeat.worker, said, px=int(ttl_s * 1e3))
        if late_s:
            pipe.set(LATE_PREFIX + heartbeat.worker, said, px=int(late_s * 1e3))
        named, *_ = pipe.execute(raise_on_error=False)
    if isinstance(named, ResponseError):
        log.error("transit.foreign_value", key=WORKERS_KEY, reason=str(named))
        transit.delete(WORKERS_KEY)


def hold_on(alive: PubSub, worker: str) -> None:
    """Keep the subscription that says that this process lives; nobody sends anything there."""
    channel = ALIVE_PREFIX + worker
    if not alive.subscribed:
        alive.subscribe(channel)
    # Answers health checks, and subscribes again where the connection was lost.
    while alive.get_message():
        continue


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
