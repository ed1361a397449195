"""The process for bulk jobs beside an inference worker: started, started again when it dies, ended with it.

Images that somebody waits for share neither interpreter lock nor slots with jobs, and a job that brings its
process down takes no image with it. Knows nothing of what the process does.
"""

import subprocess
import sys
import threading
import time
from types import TracebackType

import structlog

from system.parent import dying_with_parent
from system.priority import TRAINER_NICENESS

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
HEALTHY_S = 60.0
# As long as a chunk of a long job may take: less than an orchestrator gives the worker.
GRACE_S = 50.0

log = structlog.get_logger()


class BulkProcess:
    """Runs from `start` to the end of its block. `stop` may be called in a signal handler, and in any thread."""

    def __init__(self, worker: str, *, first_delay_s: float = FIRST_DELAY_S) -> None:
        # What else is starting has the cores first. With a bulk job's own niceness it would take minutes on a
        # full machine to import what it needs.
        self._command = dying_with_parent(
            [sys.executable, "-m", "workers.inference.bulk", worker], niceness=TRAINER_NICENESS
        )
        self._first_delay_s = first_delay_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        # The kernel ends the process with the thread that started it, so one thread starts it every time.
        self._thread = threading.Thread(target=self._keep_running, name="bulk")

    @property
    def pid(self) -> int | None:
        """None before the first start."""
        return self._process.pid if self._process else None

    def __enter__(self) -> "BulkProcess":
        return self

    def start(self) -> None:
        """Keep the process running from now on. Once; after that, and after `stop`, nothing happens."""
        if self._thread.ident is None and not self._stopping.is_set():
            self._thread.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._thread.ident is None:
            return
        self._thread.join(GRACE_S)
        if self._thread.is_alive() and self._process:
            log.warning("bulk.killed", after_s=GRACE_S)
            self._process.kill()
            self._thread.join()

    def stop(self) -> None:
        """Have the process give its jobs back and end; it is not started again."""
        self._stopping.set()
        if self._process:
            self._process.terminate()

    def _keep_running(self) -> None:
        delay = self._first_delay_s
        while not self._stopping.is_set():
            began = time.monotonic()
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
            if self._stopping.is_set():
                self._process.terminate()
            code = self._process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > HEALTHY_S:
                delay = self._first_delay_s
            log.error("bulk.died", exit_code=code, again_in_s=delay)
            self._stopping.wait(delay)
            delay = min(LONGEST_DELAY_S, 2 * delay)
