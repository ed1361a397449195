"""How a worker ends: it takes no more messages at once, finishes those that it holds, and only then stops.

Celery's own end leaves its event loop first and waits for the tasks afterwards. A message that Redis hands over
to the last request for one, still open then, waits for the slowest of them; here it goes back at once.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_shutting_down
from celery.utils.dispatch import Signal
from celery.worker import state

EX_OK = 0
# How often it looks whether the last message is finished.
TICK_S = 0.05
log = structlog.get_logger()

consumption_ended = Signal(name="consumption_ended")
"""Sent in the consumer's loop when a worker that is told to end has given up its queues."""


class Draining:
    """One consumer's end by SIGTERM or SIGINT. What happens in the handler is safe there: it writes one byte.

    `is_finished` says whether what does not go through the consumer is finished, too.
    """

    def __init__(self, is_finished: Callable[[], bool] = lambda: True) -> None:
        self._is_finished = is_finished
        self._heard, self._asked = os.pipe()
        os.set_blocking(self._heard, False)
        os.set_blocking(self._asked, False)
        self._is_asked = False
        self._is_consuming = False
        self._idle_ticks = 0

    def install(self, app: Celery) -> None:
        """Have every consumer of `app`, of which this process has one, end in this way."""
        draining = self

        class DrainStep(bootsteps.StartStopStep):
            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, consumer: Any) -> None:
                draining.listen(consumer)

            def stop(self, consumer: Any) -> None:
                draining.pause(consumer)

        app.steps["consumer"].add(DrainStep)

    def listen(self, consumer: Any) -> None:
        """From the start of a consumer, which is also that after a lost connection."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # Celery has set its own by now.
            signal.signal(number, self._on_signal)
        consumer.hub.add_reader(self._heard, self._begin, consumer)
        self._is_consuming = True

    def pause(self, consumer: Any) -> None:
        """There is no loop now that would hear of a signal, so Celery looks at its own flag."""
        self._is_consuming = False
        consumer.hub.remove_reader(self._heard)
        if self._is_asked:
            _end()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_asked:
            return
        self._is_asked = True
        if self._is_consuming:
            os.write(self._asked, b"!")
        else:
            _tell_jobs()
            _end()

    def _begin(self, consumer: Any) -> None:
        os.read(self._heard, 64)
        log.info("worker.draining", running=len(state.reserved_requests))
        # A message that Redis hands over now, to a request that is on its way, is put back as soon as it arrives.
        consumer.task_consumer.cancel()
        consumption_ended.send(sender=consumer)
        _tell_jobs()
        consumer.timer.call_repeatedly(TICK_S, self._look)

    def _look(self) -> None:
        """A message is acknowledged a moment after it is finished, by the same loop: hence twice."""
        is_idle = not state.reserved_requests and self._is_finished()
        self._idle_ticks = self._idle_ticks + 1 if is_idle else 0
        if self._idle_ticks >= 2:
            _end()


def _tell_jobs() -> None:
    """Those that run are given back at their next step."""
    worker_shutting_down.send(sender=None, sig="SIGTERM", how="Warm", exitcode=EX_OK)


def _end() -> None:
    state.should_stop = EX_OK  # type: ignore[assignment] # None until somebody wants the end
