"""Starts a training process and stays with it to its end. Knows no torch and decides nothing about the job.

The one thing that only it can tell is why a process died without a word: the kernel's signal. That goes into the
job with the dead attempt's own token.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from storage.errors import LeaseLost, StorageError
from storage.jobs import Attempt, JobLedger
from system.parent import dying_with_parent
from workers.training.parent import ATTEMPT_VARIABLE, WORKER_VARIABLE

# A trainer that was told to stop reaches its next step, writes its checkpoint and gives the job back; one that is
# inside an export has to come out of it first.
GRACE_S = 60.0

log = structlog.get_logger()


class Supervisor:
    """Runs one training at a time. `stop` may be called from a signal handler, and from any thread."""

    def __init__(self, open_ledger: Callable[[], JobLedger], worker: str) -> None:
        self._open_ledger, self._worker = open_ledger, worker
        self._one_at_a_time = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()

    def run(self, job_id: str) -> int:
        """Trains the job in a process of its own; returns that process's exit code."""
        with self._one_at_a_time, tempfile.TemporaryDirectory(prefix="fovea-trainer-") as folder:
            if self._stopping.is_set():
                # The job stays queued, and the reconciler sends it to another worker.
                return 0
            handed_over = Path(folder) / "attempt.json"
            self._child = child = self._start(job_id, handed_over)
            if self._stopping.is_set():
                self.stop()
            with child:
                _relay(child)
            code = child.returncode
            self._child = None
            if code != 0:
                self._explain(job_id, handed_over, code)
            return code

    def stop(self) -> None:
        """Ask the training to write a checkpoint and give its job back; no other one is begun."""
        self._stopping.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)
            killer = threading.Timer(GRACE_S, lambda: _kill_group(child))
            killer.daemon = True
            killer.start()

    def _start(self, job_id: str, handed_over: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            dying_with_parent([sys.executable, "-m", "workers.training.runner", job_id]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            # Ctrl-C in a terminal goes to every process of the group; the worker decides what the trainer hears.
            start_new_session=True,
            env=os.environ
            | {
                ATTEMPT_VARIABLE: str(handed_over),
                WORKER_VARIABLE: self._worker,
            },
        )

    def _explain(self, job_id: str, handed_over: Path, code: int) -> None:
        """Fail the dead attempt with what killed it, so that the next one begins now and knows why."""
        reason = why(code)
        log.error("trainer.died", job=job_id, reason=reason)
        with contextlib.suppress(OSError, ValueError):
            token = json.loads(handed_over.read_text())["token"]
            try:
                ledger = self._open_ledger()
                ledger.fail(Attempt(ledger.get(job_id), token), *reason, retry=True)
            except LeaseLost:
                return  # it ended its job before it died, or another attempt holds it
            except StorageError as error:
                log.error("trainer.death_not_recorded", job=job_id, reason=str(error))


def why(code: int) -> tuple[str, str]:
    """A stable code and a text for the exit code of a process that did not end its job itself."""
    if code == -signal.SIGKILL:
        return (
            "trainer_killed",
            "The training process was killed (SIGKILL); most often the machine ran out of memory. Give the "
            "training worker more, or choose a smaller batch_size or architecture.",
        )
    if code < 0:
        return "trainer_crashed", f"The training process was ended by {signal.Signals(-code).name}."
    return (
        "trainer_crashed",
        f"The training process ended with exit code {code}; the worker's log has the details.",
    )


def _relay(child: "subprocess.Popen[str]") -> None:
    """Everything that the process says goes where the worker's own log goes."""
    for line in child.stdout or ():
        sys.stderr.write(line)
        sys.stderr.flush()


def _kill_group(child: "subprocess.Popen[str]") -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
