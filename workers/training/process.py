"""Training jobs in a process each, from the worker's side: take the job, start the process, stay with it.

Knows no torch. The one thing that only it can tell is why a process died without a word: that goes into the
job with the dead attempt's own token.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from storage.errors import LeaseLost, StorageError
from storage.job import Attempt
from storage.job_ledger import JobLedger
from system.ending import ending, oom_kills
from system.parent import dying_with_parent
from workers.contract.queues import GIVES_WAY, TASK_OF_JOB, TaskName
from workers.jobs.attempt import give_back_unknown, take
from workers.jobs.failure import ProcessCrashed, ProcessKilled, failure_of, unless_again
from workers.training.cleanup import delete_old_work
from workers.training.precedence import giving_way, is_asked_for
from workers.training.spare import SPARE_OPTION, SpareTrainer

# A process that was told to stop reaches its next step, writes its checkpoint and gives the job back; one that is
# inside an export has to come out of it first.
GRACE_S = 60.0
# The process renews the lease once it has started, which on a busy machine takes seconds.
STARTING_S = 30.0
TRAINING_JOBS = frozenset(kind for kind, task in TASK_OF_JOB.items() if task is TaskName.RUN_TRAINING_JOB)

log = structlog.get_logger()


class TrainingProcesses:
    """Runs training jobs, one at a time, in folders below `work`.

    `stop` may be called from a signal handler, and from any thread. With `spare`, from `be_ready` on a process
    waits warm for the next job whenever there is nothing to do.
    """

    def __init__(self, ledger: JobLedger, worker: str, lease_s: float, work: Path, *, spare: bool = False) -> None:
        self._ledger, self._worker, self._lease_s, self._work = ledger, worker, lease_s, work
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        self._spare = SpareTrainer(lambda: start_trainer(SPARE_OPTION)) if spare else None

    def be_ready(self) -> None:
        """The worker is there and has nothing to do."""
        if self._spare is not None:
            self._spare.want()

    def run(self, job_id: str) -> None:
        """See the job through; does nothing when it is another worker's, has ended or is cancelled."""
        with self._one_at_a_time:
            if self._stopping.is_set():
                # The job stays queued, and the reconciler sends it to another worker.
                return
            attempt = take(self._ledger, job_id, self._worker, self._lease_s + STARTING_S)
            if attempt is None:
                # One that was cancelled between two attempts has left its folder here.
                with contextlib.suppress(StorageError):
                    delete_old_work(self._work, self._ledger)
                return
            if attempt.job.kind not in TRAINING_JOBS:
                give_back_unknown(self._ledger, attempt)
                return
            gives_way = attempt.job.kind in GIVES_WAY
            if gives_way and is_asked_for(self._ledger):
                log.info("job.gives_way", job=job_id)
                _record(attempt, lambda: self._ledger.release(attempt))
                return
            before = oom_kills()
            try:
                self._process = process = self._trainer(gives_way)
                _hand_over(process, attempt)
                if self._stopping.is_set():
                    self.stop()
                with process, self._giving_way(process, gives_way) as has_given_way:
                    _relay(process)
                    process.wait()
            finally:
                self._process = None
                self.be_ready()
            if process.returncode != 0 and (self._stopping.is_set() or has_given_way.is_set()):
                _release(self._ledger, attempt, process.returncode)
            elif process.returncode != 0:
                _explain(self._ledger, attempt, process.returncode, before)

    def _trainer(self, gives_way: bool) -> "subprocess.Popen[str]":
        """One that waits warm, for somebody waits for the job; where nobody does, the next job is to have that."""
        spare = self._spare.take() if self._spare and not gives_way else None
        return spare or start_trainer()

    def _giving_way(
        self, process: "subprocess.Popen[str]", gives_way: bool
    ) -> contextlib.AbstractContextManager[threading.Event]:
        if not gives_way:
            return contextlib.nullcontext(threading.Event())
        return giving_way(process, self._ledger, lambda: _kill_group(process))

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask the training to write a checkpoint and give its job back; no other one is begun."""
        self._stopping.set()
        if self._spare is not None:
            self._spare.close()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            killer = threading.Timer(GRACE_S, lambda: _kill_group(process))
            killer.daemon = True
            killer.start()


def start_trainer(*options: str) -> "subprocess.Popen[str]":
    """A process that does the job which it is told on its standard input. Raises OSError."""
    return subprocess.Popen(
        dying_with_parent([sys.executable, "-m", "workers.training.runner", *options]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C in a terminal goes to every process of the group; the worker decides what the process hears.
        start_new_session=True,
    )


def _hand_over(process: "subprocess.Popen[str]", attempt: Attempt) -> None:
    if process.stdin:
        # One that has died already is explained by its exit code.
        with contextlib.suppress(BrokenPipeError), process.stdin as given:
            json.dump(
                {"job": attempt.job.id, "kind": attempt.job.kind, "token": attempt.token, "taken_at": time.time()},
                given,
            )


def _relay(process: "subprocess.Popen[str]") -> None:
    """Everything that the process says goes where the worker's own log goes."""
    for line in process.stdout or ():
        sys.stderr.write(line)
        sys.stderr.flush()


def _release(ledger: JobLedger, attempt: Attempt, exit_code: int) -> None:
    """Give the job back for a process that this worker has ended before it could do so itself.

    It may have ended itself because it came to no end (`system/stopping.py`).
    """
    log.warning("trainer.stopped", job=attempt.job.id, exit_code=exit_code)
    _record(attempt, lambda: ledger.release(attempt))


def _explain(ledger: JobLedger, attempt: Attempt, exit_code: int, oom_kills_before: int | None) -> None:
    """Fail the dead attempt with what ended its process, without waiting for its lease to end.

    Where that of the attempt before was ended, too, the job is not tried again.
    """
    how = ending(exit_code, oom_kills_before=oom_kills_before)
    death = ProcessKilled(how) if exit_code == -signal.SIGKILL else ProcessCrashed(how)
    failure = failure_of(unless_again(death, attempt.job.error))
    log.error("trainer.died", job=attempt.job.id, code=failure.code, reason=failure.detail)
    _record(attempt, lambda: ledger.fail(attempt, failure.code, failure.detail, retry=failure.retry))


def _record(attempt: Attempt, write: Callable[[], None]) -> None:
    try:
        write()
    except LeaseLost:
        return  # it ended its job before it died, or another attempt holds it
    except StorageError as error:
        log.warning("trainer.death_not_recorded", job=attempt.job.id, reason=str(error))


def _kill_group(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
