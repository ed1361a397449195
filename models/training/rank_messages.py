"""What a trainer and the ranks of its training say to each other, over pipes between processes of one release.

A rank also sends each StepRecord and EpochRecord of the loop. Its last word is one of those in `LastWord`.
"""

from dataclasses import dataclass
from pathlib import Path

from models.training.image_training import ImageTraining
from models.training.progress import FitResult

# What a rank may be about, in the order in which that comes within a step.
STAGES = ("starting", "waiting for images", "in a step", "evaluating", "writing a checkpoint", "ending")


LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Task:
    """What all ranks are given, in a file.

    `device` is `cpu` or `cuda`, of which each rank takes that of its number; `port` is that of the store on this
    machine by which they find each other. Checkpoints of `fingerprint` lie in `checkpoints`; `weights` is where
    rank 0 writes what was learnt. `parts` bounds how many images a rank takes at once, where that is known.
    """

    training: ImageTraining
    ranks: int
    device: str
    port: int
    threads: int
    checkpoints: Path
    fingerprint: str
    weights: Path
    timeout_s: float
    parts: int | None = None


@dataclass(frozen=True, order=True)
class Position:
    """Where a rank is, told every second; `stage` is an index of STAGES."""

    epoch: int = 0
    step: int = 0
    stage: int = 0

    def __str__(self) -> str:
        return f"{STAGES[self.stage]} (epoch {self.epoch + 1}, after step {self.step})"


@dataclass(frozen=True)
class Saved:
    """Rank 0 has written a checkpoint, and waits for Copied."""


@dataclass(frozen=True)
class Copied:
    """To rank 0: the checkpoint is where it belongs."""


@dataclass(frozen=True)
class Stop:
    """To rank 0, which tells the others: the Interrupted to raise after the step in hand."""

    reason: str
    keep_best: bool
    resume: bool


@dataclass(frozen=True)
class Finished:
    """The training is over; rank 0 has written the weights."""

    result: FitResult


@dataclass(frozen=True)
class Stopped:
    """As it was told to."""


@dataclass(frozen=True)
class TooLarge:
    """A share of a batch does not fit into memory; parts of so many `images` may."""

    images: int


@dataclass(frozen=True)
class Failed:
    """What the rank raised; `by_others` where that only says that another one is gone."""

    error: Exception
    by_others: bool


LastWord = Finished | Stopped | TooLarge | Failed
