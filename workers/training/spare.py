"""A trainer that waits with everything imported, so that the next job need not wait for its process to start.

It is a process like any other trainer, started in advance: it takes exactly one job, and another one is started
when that has ended. Jobs share nothing, and a worker never has a second trainer but beside a job that gives way.
"""

import subprocess
import sys
import threading
from collections.abc import Callable

import structlog

# Has a trainer import everything before it reads what its job is.
SPARE_OPTION = "--spare"
# Starting one takes a core for some seconds: the next job, or what else is just starting, is to have it first.
IDLE_S = 1.0
ENDING_S = 5.0

log = structlog.get_logger()


class SpareTrainer:
    """Has a trainer wait whenever its worker has had nothing to do for `idle_s`; `start` starts the process.

    One that dies while it waits costs its job the warm start and no more, and is not replaced before that job has
    ended: where there is no memory for it, none is started again and again.
    """

    def __init__(self, start: Callable[[], "subprocess.Popen[str]"], *, idle_s: float = IDLE_S) -> None:
        self._start, self._idle_s = start, idle_s
        self._changed = threading.Condition()
        self._wanted = self._closed = False
        self._waiting: subprocess.Popen[str] | None = None
        # The kernel ends a trainer with the thread that started it (system/parent.py), so this one stays.
        self._thread = threading.Thread(target=self._keep, name="spare trainer", daemon=True)

    @property
    def waiting(self) -> "subprocess.Popen[str] | None":
        """The one that waits now, whether or not it has imported everything already."""
        return self._waiting

    def want(self) -> None:
        """From now on the worker has nothing to do."""
        with self._changed:
            self._wanted = not self._closed
            if self._wanted and self._thread.ident is None:
                self._thread.start()
            self._changed.notify()

    def take(self) -> "subprocess.Popen[str] | None":
        """The process that waits, for one job; None where there is none. None is started until `want`."""
        with self._changed:
            self._wanted = False
            taken, self._waiting = self._waiting, None
            self._changed.notify()
        if taken is not None and taken.poll() is not None:
            log.warning("trainer.spare_died", exit_code=taken.returncode)
            _end(taken)
            return None
        return taken

    def close(self) -> None:
        """End the one that waits, and start none any more. Waits for nothing: for signal handlers, too."""
        with self._changed:
            self._closed, self._wanted = True, False
            self._changed.notify()

    def _keep(self) -> None:
        while True:
            ended = None
            with self._changed:
                if self._closed and self._waiting is not None:
                    ended, self._waiting = self._waiting, None
                elif not self._wanted or self._waiting is not None:
                    self._changed.wait()
                elif not self._changed.wait(self._idle_s):
                    self._start_one()
            if ended is not None:
                ended.terminate()
                _end(ended)

    def _start_one(self) -> None:
        try:
            self._waiting = self._start()
            log.info("trainer.spare_started", pid=self._waiting.pid)
        except OSError as error:
            self._wanted = False
            log.warning("trainer.spare_not_started", reason=str(error))


def _end(process: "subprocess.Popen[str]") -> None:
    """Wait for its end, and pass on what it has said."""
    try:
        said, _ = process.communicate(timeout=ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    sys.stderr.write(said)
    sys.stderr.flush()
