"""Tells how far a training job is: the job, its event stream, its trace and the worker's log. Knows no torch."""

import time
from typing import TYPE_CHECKING, Any

import structlog

from storage.errors import DatabaseUnavailable
from workers.jobs.attempt import RunningAttempt

if TYPE_CHECKING:
    from models.training.progress import EpochRecord, StepRecord

INTERVAL_S = 0.5

log = structlog.get_logger()


class ProgressReporter:
    """The watcher of a training job: writes progress at most every half second, and lets the job be stopped.

    Progress is `{"phase", "attempt", "elapsed_s", "seconds", "eta_s", ...}`. Phases that count have `done` and
    `total`; in `training` there are also `epoch`, `epochs`, `step`, `steps`, `loss`, `accuracy`,
    `images_per_second`, and from the first epoch's end on `validation_loss` and `validation_accuracy`. `eta_s` is
    for the phase. `seconds` are those of each phase that has ended, after `starting`: how long the attempt had
    been taken by then. Every call but `end_phase` may raise LeaseLost and Interrupted.
    """

    def __init__(self, attempt: RunningAttempt, starting_s: float = 0.0) -> None:
        self._attempt = attempt
        self._started = self._phase_started = self._images_since = time.monotonic()
        self._written = 0.0
        self._images = 0
        self._facts: dict[str, Any] = {}
        self._now: dict[str, Any] = {}
        self._fraction_before: float | None = None
        self.seconds: dict[str, float] = {"starting": round(starting_s, 3)}
        self._trace("starting", starting_s)

    def check(self) -> None:
        self._attempt.check()

    def phase(self, name: str) -> None:
        """Ends the phase before."""
        self.end_phase()
        self._now = {"phase": name}
        self._phase_started = time.monotonic()
        self._fraction_before = None
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
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + spent, 3)
            self._trace(phase, spent)
        self._now = {}

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` images or fits of the phase are done."""
        spent = time.monotonic() - self._phase_started
        self._now |= {"done": done, "total": total}
        if done:
            self._now |= {"eta_s": round(spent / done * (total - done), 1)}
        self._write()

    def download(self, name: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of the file have come."""
        self._now |= {"downloading": name, "done_bytes": done, "total_bytes": total}
        self._write()

    def step(self, record: "StepRecord") -> None:
        now = time.monotonic()
        fraction = (record.epoch - 1 + record.step / record.steps) / max(1, record.epochs)
        if self._fraction_before is None:
            # A resumed training begins in the middle, and its speed is that of this attempt.
            self._fraction_before, self._images_since = fraction, now
        self._images += record.images
        spent, covered = now - self._images_since, fraction - self._fraction_before
        self._now |= {"epoch": record.epoch, "epochs": record.epochs, "step": record.step, "steps": record.steps}
        self._now |= {"loss": round(record.loss, 5), "accuracy": round(record.accuracy, 5)}
        if covered > 0:
            self._now |= {"eta_s": round(spent / covered * (1 - fraction), 1)}
            self._now |= {"images_per_second": round(self._images / max(spent, 1e-9), 1)}
        self._write()

    def evaluating(self, done: int, total: int) -> None:
        if self._now.get("phase") == "training":
            self._write()
        else:
            self.progress(done, total)

    def epoch(self, record: "EpochRecord") -> None:
        self._now |= {"epoch": record.epoch, "loss": round(record.loss, 5), "accuracy": round(record.accuracy, 5)}
        self._now |= {"validation_loss": round(record.validation_loss, 5)}
        self._now |= {"validation_accuracy": round(record.validation_accuracy, 5)}
        log.info("training.epoch", **{k: v for k, v in self._now.items() if k not in ("phase", "step", "steps")})
        self._write(force=True)

    def _trace(self, phase: str, seconds: float) -> None:
        """The phase has ended now."""
        if self._attempt.span:
            now = time.time()
            self._attempt.span.child(phase, now - seconds, now)

    def _write(self, *, force: bool = False) -> None:
        self._attempt.check()
        now = time.monotonic()
        if not force and now - self._written < INTERVAL_S:
            return
        self._written = now
        rest = {
            "attempt": self._attempt.job.attempt,
            "elapsed_s": round(now - self._started, 1),
            "seconds": dict(self.seconds),
        }
        try:
            self._attempt.report({**self._now, **self._facts, **rest})
        except DatabaseUnavailable as error:
            # Progress is worth less than the training; whether the job is still ours, the lease finds out.
            log.warning("training.progress_not_written", reason=str(error))
