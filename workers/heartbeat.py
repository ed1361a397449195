"""A worker's sign of life in Redis, given by its consumer loop: a worker that stopped consuming falls silent.

It has two parts. What is said counts for a moment, so that a worker that died is soon missed. On a machine that is
too busy to let it speak it is late; then it still counts as long as its process holds a subscription, which ends
with the process, and has spoken within a longer time, which a worker that hangs has not.

It is given on every transit server, so that gateways know which of them every worker reaches. One that does not
answer does not keep the others waiting.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
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

# Both tries of a server that does not answer.
LAST_WORD_S = 5.0
log = structlog.get_logger()


def install_heartbeat(
    app: Celery,
    urls: Sequence[str],
    beat: Callable[[], Heartbeat | None],
    *,
    interval_s: float,
    ttl_s: float,
    late_s: float,
) -> None:
    """Have every consumer of `app` write `beat()` to the Redis servers at `urls`, and take it back when it stops.

    It counts for `ttl_s`, and for `late_s` as long as the process lives. The worker is silent while `beat` gives
    None. One that is told to end has no slots from then on, until it has finished the messages that it holds.
    """
    signs = [_Sign(url, ttl_s, late_s) for url in urls]
    is_leaving = False

    def say(_consumer: object = None) -> None:
        heartbeat = beat()
        if heartbeat is None:
            _on_each(signs, _Sign.take_back)
            return
        if is_leaving:
            # What it holds it still answers, and nobody is to send it more.
            heartbeat = replace(heartbeat, slots=0)
        _on_each(signs, lambda sign: sign.give(heartbeat))

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
            _on_each(signs, _Sign.take_back, last=True)
            timer = getattr(self, "timer", None)
            if timer:
                timer.cancel()

    app.steps["consumer"].add(HeartbeatStep)


class _Sign:
    """The worker's sign of life on one server. While that is away nobody hears it; the next beat tries again."""

    def __init__(self, url: str, ttl_s: float, late_s: float) -> None:
        self._transit = connect_for_heartbeats(url)
        self._alive: PubSub = self._transit.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._ttl_s, self._late_s = ttl_s, late_s
        self._worker = ""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="heartbeat")
        self._writing: Future[None] | None = None

    def give(self, heartbeat: Heartbeat) -> None:
        self._worker = heartbeat.worker
        with suppress(RedisError):
            beat_once(self._transit, heartbeat, self._ttl_s, self._late_s)
        with suppress(RedisError):
            hold_on(self._alive, heartbeat.worker)

    def take_back(self) -> None:
        with suppress(RedisError):
            self._transit.delete(HEARTBEAT_PREFIX + self._worker, LATE_PREFIX + self._worker)
            self._transit.srem(WORKERS_KEY, self._worker)
        with suppress(RedisError):
            self._alive.close()

    def in_its_thread(self, do: Callable[["_Sign"], None], *, last: bool) -> "Future[None] | None":
        """None where the beat before is still being written, unless it is the last thing to be done."""
        if self._writing and not self._writing.done() and not last:
            return None
        self._writing = self._writer.submit(do, self)
        return self._writing


def _on_each(signs: Sequence[_Sign], do: Callable[[_Sign], None], *, last: bool = False) -> None:
    """In the consumer's own thread; several servers have one each, and only their last word is waited for."""
    if len(signs) == 1:
        do(signs[0])
        return
    written = [sign.in_its_thread(do, last=last) for sign in signs]
    if last:
        wait([each for each in written if each], timeout=LAST_WORD_S)


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
