"""How a training goes: where it is, what it has reached, and who is told. Plain numbers; knows no network."""

import math
from dataclasses import dataclass, field
from typing import Protocol

from models.training.checkpoint import Checkpoints


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


class Watcher(Protocol):
    """Who follows a training; any of these may raise Interrupted."""

    def step(self, epoch: int, step: int, steps: int, images: int, loss: float, accuracy: float) -> None: ...
    def evaluating(self, done: int, total: int) -> None: ...
    def epoch(self, record: EpochRecord) -> None: ...
    def saved(self, checkpoints: Checkpoints) -> None: ...


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
class Outcome:
    """A finished training; the network holds the weights of `best_epoch` (counted from 1)."""

    history: tuple[EpochRecord, ...]
    best_epoch: int
    stopped: str
