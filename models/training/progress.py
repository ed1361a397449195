"""How a training goes: where it is, what it has reached, and who is told. Plain numbers; knows no network."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

# Called with how much is done, and how much there is in all.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class EpochRecord:
    """One line of the learning curves; losses are mean cross-entropies, epochs count from 1."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class StepRecord:
    """One step of the optimizer over `images` images: step `step` of `steps` in epoch `epoch` of at most `epochs`.

    All count from 1. `loss` (mean cross-entropy) and `accuracy` are those of the epoch so far.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images: int
    loss: float
    accuracy: float


class Watcher(Protocol):
    """Who follows a training; any of these may raise Interrupted. `check` does nothing else.

    A phase, `extracting` or `training`, begins with `phase`. `progress` counts images or fits of the phase.
    """

    def check(self) -> None: ...
    def phase(self, name: str) -> None: ...
    def progress(self, done: int, total: int) -> None: ...
    def step(self, record: StepRecord) -> None: ...
    def evaluating(self, done: int, total: int) -> None: ...
    def epoch(self, record: EpochRecord) -> None: ...


@dataclass
class Progress:
    """Where a training is: `step` batches of epoch `epoch` (from 0) are done. Plain numbers, for checkpoints."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    micro_batch: int = 0
    best_epoch: int = 0
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    history: list[EpochRecord] = field(default_factory=list)

    def next_epoch(self) -> None:
        self.epoch, self.step, self.loss_sum, self.correct, self.seen, self.seconds = (
            self.epoch + 1,
            0,
            0.0,
            0.0,
            0,
            0.0,
        )


@dataclass(frozen=True)
class FitResult:
    """A finished training; the network holds the weights of `best_epoch` (counted from 1).

    `stopped` is why it ended: `epochs`, `patience`, `solved`, or the reason of an interruption that kept the best.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    stopped: str
