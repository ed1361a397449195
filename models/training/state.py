"""Everything that a training is made of and everything of it that changes, as one thing to save and to restore."""

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.training.batches import Batches
from models.training.checkpoint import Checkpoint, CheckpointStore, cpu_copies
from models.training.eval_inputs import ValidationSet
from models.training.group import Alone, Group
from models.training.optimizer import Schedule, make_optimizer
from models.training.precision import Precision
from models.training.progress import EpochRecord, Progress
from models.training.recipe import Recipe


class Trainable(Protocol):
    """What learns: a network, and how to put those parts of it that learn, and only those, in training mode."""

    @property
    def network(self) -> nn.Module: ...
    def train(self) -> None: ...


@dataclass
class TrainingState:
    """`groups` are the optimizer's parameter groups, as `parameter_groups` makes them.

    `group` are those who train it: of several ranks the first alone keeps the best weights and writes checkpoints.
    `parts` bounds how many images go through the network at once, where that is known. Several ranks have to know
    the `shape` of one input.
    """

    trainable: Trainable
    groups: list[dict[str, Any]]
    recipe: Recipe
    batches: Batches
    validation: ValidationSet
    seed: int
    device: torch.device
    class_weights: Tensor | None = None
    checkpoints: CheckpointStore | None = None
    group: Group = field(default_factory=Alone)
    memory_format: torch.memory_format = torch.contiguous_format
    parts: int | None = None
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.network = self.trainable.network.to(self.device)
        self.network.to(memory_format=self.memory_format)
        self.trainable.train()
        self._shared = self.group.wrap(self.network, self.recipe.batch_size, self.shape)
        self.optimizer = make_optimizer(self.groups, self.recipe)
        self.schedule = Schedule(self.recipe, len(self.batches))
        self.precision = Precision(self.device, self.recipe.mixed_precision)
        self.progress = Progress(micro_batch=self.parts or self.recipe.batch_size + 1)
        self.best: dict[str, Tensor] | None = None

    @property
    def learner(self) -> nn.Module:
        """The network as a step goes through it."""
        return self.network if self.group.size == 1 else self._shared

    def keep_as_best(self) -> None:
        if self.group.rank == 0:
            self.best = cpu_copies(dict(self.network.state_dict()))

    def go_back_to_best(self) -> None:
        """Does nothing before the first epoch has ended."""
        if self.best is not None:
            self.network.load_state_dict(self.best)

    def checkpoint(self) -> Checkpoint:
        state: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        record = {
            "progress": asdict(self.progress),
            "schedule": self.schedule.state(),
            "recipe": self.recipe.model_dump(),
            "seed": self.seed,
            "threads": torch.get_num_threads(),
        }
        return Checkpoint(dict(self.network.state_dict()), state, record, self.best)

    def restore(self, checkpoint: Checkpoint) -> None:
        # Sums over threads depend on how many there are, so going on exactly takes as many as before.
        torch.set_num_threads(int(checkpoint.record["threads"]))
        self.network.load_state_dict(checkpoint.weights)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        # Empty where no scaler was in use: the training may go on with another number format than it began with.
        if checkpoint.state["scaler"]:
            self.precision.scaler.load_state_dict(checkpoint.state["scaler"])
        torch.set_rng_state(checkpoint.state["random"])
        if self.device.type == "cuda" and "random_cuda" in checkpoint.state:
            torch.cuda.set_rng_state(checkpoint.state["random_cuda"], self.device)
        progress = dict(checkpoint.record["progress"])
        progress["history"] = [EpochRecord(**line) for line in progress["history"]]
        progress["best_score"] = tuple(progress["best_score"])
        self.progress = Progress(**progress)
        if self.parts is not None:
            self.progress.micro_batch = min(self.progress.micro_batch, self.parts)
        self.schedule.restore(checkpoint.record["schedule"])
        self.best = checkpoint.best

    def save(self) -> None:
        """Does nothing where no checkpoints are kept. Raises OSError on a full disk."""
        if self.checkpoints is not None and self.group.rank == 0:
            self.checkpoints.save(self.checkpoint())
