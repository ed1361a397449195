"""Says how far a training job is: into the job, its event stream and the worker's log. Knows no torch."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from storage.errors import DatabaseUnavailable
from storage.jobs import Attempt, JobLedger
from workers.traces import Span
from workers.training.lease import Lease

if TYPE_CHECKING:
    from models.training.checkpoint import Checkpoints
    from models.training.progress import EpochRecord

INTERVAL_S = 0.5

log = structlog.get_logger()


class Reporter:
    """Writes progress at most every half second, and lets the job be stopped wherever it is told something.

    Progress is `{"phase", "attempt", "elapsed_s", "eta_s", ...}`. Phases that count have `done` and `total`; in
    `training` there are also `epoch`, `epochs`, `step`, `steps`, `loss`, `accuracy`, `images_per_second`, and from
    the first epoch's end on `validation_loss` and `validation_accuracy`. `eta_s` is for the phase.
    """

    def __init__(self, ledger: JobLedger, attempt: Attempt, lease: Lease, span: Span | None = None) -> None:
        self._ledger, self._attempt, self._lease, self._span = ledger, attempt, lease, span
        self._started = self._phase_started = self._images_since = time.monotonic()
        self._written = 0.0
        self._images = 0
        self._facts: dict[str, Any] = {}
        self._now: dict[str, Any] = {}
        self._begun_at: float | None = None
        self.seconds: dict[str, float] = {}
        self.epochs = 0
        self.mirror: Callable[[Checkpoints, bool], None] | None = None

    def phase(self, name: str) -> None:
        self.end_phase()
        self._now = {"phase": name}
        self._phase_started = time.monotonic()
        self._begun_at = None
        log.info("training.phase", phase=name)
        self._write(force=True)

    def remember(self, **facts: Any) -> None:
        """Facts that stay in the progress from here on."""
        self._facts |= facts
        log.info("training.decided", **facts)
        self._write(force=True)

    def end_phase(self) -> None:
        """Does nothing between phases."""
        if self._now:
            phase, spent = self._now["phase"], time.monotonic() - self._phase_started
            self.seconds[phase] = round(spent, 3)
            if self._span:
                self._span.child(phase, time.time() - spent, time.time())
        self._now = {}

    def check(self) -> None:
        self._lease.check()

    def tick(self, done: int, total: int) -> None:
        """`done` of `total` items of the phase are done."""
        spent = time.monotonic() - self._phase_started
        self._now |= {"done": done, "total": total}
        if done:
            self._now |= {"eta_s": round(spent / done * (total - done), 1)}
            self._now |= {"images_per_second": round(done / max(spent, 1e-9), 1)}
        self._write()

    def solving(self, done: int, total: int) -> None:
        """`done` of `total` regressions are solved."""
        spent = time.monotonic() - self._phase_started
        self._now |= {"done": done, "total": total, "eta_s": round(spent / max(1, done) * (total - done), 1)}
        self._write()

    def download(self, name: str, done: int, total: int | None) -> None:
        self._now |= {"downloading": name, "done_bytes": done, "total_bytes": total}
        self._write()

    # The training loop's watcher.

    def step(self, epoch: int, step: int, steps: int, images: int, loss: float, accuracy: float) -> None:
        now = time.monotonic()
        fraction = (epoch - 1 + step / steps) / max(1, self.epochs)
        if self._begun_at is None:
            # A resumed training begins in the middle, and its speed is that of this attempt.
            self._begun_at, self._images_since = fraction, now
        self._images += images
        spent, covered = now - self._images_since, fraction - self._begun_at
        self._now |= {"epoch": epoch, "epochs": self.epochs, "step": step, "steps": steps}
        self._now |= {"loss": round(loss, 5), "accuracy": round(accuracy, 5)}
        if covered > 0:
            self._now |= {"eta_s": round(spent / covered * (1 - fraction), 1)}
            self._now |= {"images_per_second": round(self._images / max(spent, 1e-9), 1)}
        self._write()

    def evaluating(self, done: int, total: int) -> None:
        if self._now.get("phase") == "training":
            self._write()
        else:
            self.tick(done, total)

    def epoch(self, record: "EpochRecord") -> None:
        self._now |= {"epoch": record.epoch, "loss": round(record.loss, 5), "accuracy": round(record.accuracy, 5)}
        self._now |= {"validation_loss": round(record.validation_loss, 5)}
        self._now |= {"validation_accuracy": round(record.validation_accuracy, 5)}
        log.info("training.epoch", **{k: v for k, v in self._now.items() if k not in ("phase", "step", "steps")})
        self._write(force=True)

    def saved(self, checkpoints: "Checkpoints") -> None:
        if self.mirror is not None:
            # The last word before the process ends: the next attempt may be on another machine.
            self.mirror(checkpoints, self._lease.is_terminated)

    def close(self, error: str | None = None) -> None:
        """The attempt is over; `error` is the code of why it has no result."""
        self.end_phase()
        if self._span:
            self._span.end(error=error)

    def _write(self, *, force: bool = False) -> None:
        self._lease.check()
        now = time.monotonic()
        if not force and now - self._written < INTERVAL_S:
            return
        self._written = now
        elapsed = {"attempt": self._attempt.job.attempt, "elapsed_s": round(now - self._started, 1)}
        try:
            self._ledger.progress(self._attempt, {**self._now, **self._facts, **elapsed})
        except DatabaseUnavailable as error:
            # Progress is worth less than the training; whether the job is still ours, the lease finds out.
            log.warning("training.progress_not_written", reason=str(error))
