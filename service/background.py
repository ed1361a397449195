"""The gateway's work beside its requests: tasks that end only with the application.

One that ends by itself ends the process, so that whoever keeps it alive starts it anew. A gateway that lives on
without its listener accepts images and answers none.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

log = structlog.get_logger()
# A process that has not ended by itself so long after a failure is ended by force.
ENDING_S = 20.0
CANCELLED_AGAIN_S = 1.0
FORCED_EXIT_CODE = 70


def _nothing_to_stop() -> None:
    """Where no server runs the application, as in a test, the reason in `failure` is all that is left."""


@dataclass
class Background:
    """Starts tasks and watches over them. `failure` says which one ended and why; None while all is well.

    On the first failure `stop` is called: it asks the server to shut down in order.
    """

    stop: Callable[[], None] = _nothing_to_stop
    failure: str | None = field(default=None, init=False)
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list, init=False)

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def close(self) -> None:
        """Cancel every task until it ends.

        `asyncio.wait_for` of Python 3.11, by which redis-py sends, loses a cancellation that meets its success.
        """
        pending = set(self._tasks)
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCELLED_AGAIN_S)
            if pending:
                log.warning("background.cancelled_again", tasks=sorted(task.get_name() for task in pending))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        reason = f"{type(error).__name__}: {error}" if error else "it returned"
        log.critical("background.ended", task=task.get_name(), reason=reason, exc_info=error)
        if self.failure is None:
            self.failure = f"{task.get_name()} ended: {reason}"
            end_by_force(after_s=ENDING_S)
            self.stop()


def end_by_force(*, after_s: float) -> None:
    """End this process then, if it still lives: a connection or a thread that hangs must not keep it."""
    timer = threading.Timer(after_s, os._exit, [FORCED_EXIT_CODE])
    timer.daemon = True
    timer.start()
