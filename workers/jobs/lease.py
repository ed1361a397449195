"""Holds a job for as long as its attempt works, and hears what is asked of it. Does not know what the work is."""

import threading
import time
from types import TracebackType

import structlog

from models.training.interruption import Interrupted
from storage.errors import LeaseLost, StorageError
from storage.job import Attempt
from storage.job_ledger import JobLedger

CANCELLED = "cancelled"
STOPPED = "stopped"
# A cancellation is heard at the next renewal, and must take effect within two seconds.
RENEWAL_S = 0.8

log = structlog.get_logger()


class Lease:
    """Renews the lease from a thread of its own; the thread that works calls `check` wherever it can stop.

    Once `stop` is set, the work is to stop and the job to be given back: the worker is shutting down.
    """

    def __init__(
        self, ledger: JobLedger, attempt: Attempt, lease_s: float, stop: threading.Event | None = None
    ) -> None:
        self._ledger, self._attempt, self._lease_s = ledger, attempt, lease_s
        self._stop = stop or threading.Event()
        self._ended = threading.Event()
        self._lost = False
        self._on_cancel: str | None = None
        self._has_result = False
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def keep_result(self) -> None:
        """From here on there is something to keep, so `keep_best` lets the work come to its end."""
        self._has_result = True

    @property
    def is_stopping(self) -> bool:
        """Whether the job is about to be given back."""
        return self._stop.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the work goes on only to keep the best that it had when its cancellation was asked for."""
        return self._on_cancel == "keep_best"

    def check(self) -> None:
        """Raises LeaseLost when another attempt may run, Interrupted when this one is to stop."""
        if self._lost:
            raise LeaseLost(self._attempt.job.id)
        if self._on_cancel == "keep_best":
            # Before a shutdown: a job that is given back now would be cancelled, and the best so far with it.
            if not self._has_result:
                raise Interrupted(CANCELLED, keep_best=True)
            return
        if self._on_cancel is not None:
            raise Interrupted(CANCELLED)
        if self._stop.is_set():
            raise Interrupted(STOPPED, resume=True)

    def _renew(self) -> None:
        held_until = time.monotonic() + self._lease_s
        while True:
            asked = time.monotonic()
            try:
                if self._ledger.renew(self._attempt, self._lease_s):
                    self._on_cancel = self._ledger.get(self._attempt.job.id).on_cancel or "discard"
                held_until = asked + self._lease_s
            except LeaseLost:
                self._lost = True
                return
            except StorageError as error:
                log.warning("lease.not_renewed", reason=str(error))
                if time.monotonic() > held_until:
                    # Another worker may have taken the job by now; its writes count, ours would be refused.
                    self._lost = True
                    return
            if self._ended.wait(min(RENEWAL_S, self._lease_s / 3)):
                return
