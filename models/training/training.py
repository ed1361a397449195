"""Everything that a training is made of and everything of it that changes, as one thing to save and to restore."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.training.batches import Batches
from models.training.checkpoint import Checkpoint, Checkpoints
from models.training.inputs import Validation
from models.training.optimise import Schedule, make_optimiser
from models.training.precision import Precision
from models.training.progress import EpochRecord, Progress, Watcher
from models.training.recipe import Recipe


class Learner(Protocol):
    """What learns: a network, and how to put those parts of it that learn, and only those, in training mode."""

    @property
    def network(self) -> nn.Module: ...
    def train(self) -> None: ...


@dataclass
class Training:
    """Everything that a training is made of, and everything of it that changes."""

    learner: Learner
    groups: list[dict[str, Any]]
    recipe: Recipe
    batches: Batches
    validation: Validation
    seed: int
    device: torch.device
    class_weights: Tensor | None = None
    checkpoints: Checkpoints | None = None

    def __post_init__(self) -> None:
        self.network = self.learner.network.to(self.device)
        self.optimiser = make_optimiser(self.groups, self.recipe)
        self.schedule = Schedule(self.recipe, len(self.batches))
        self.precision = Precision(self.device, self.recipe.mixed_precision)
        self.progress = Progress(micro_batch=self.recipe.batch_size + 1)
        self.best: dict[str, Tensor] | None = None

    def checkpoint(self) -> Checkpoint:
        state: dict[str, Any] = {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        record = {
            "progress": asdict(self.progress), "schedule": self.schedule.state(), "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "threads": torch.get_num_threads(),
        }  # fmt: skip
        return Checkpoint(dict(self.network.state_dict()), state, record, self.best)

    def restore(self, checkpoint: Checkpoint) -> None:
        # Sums over threads depend on how many there are, so going on exactly takes as many as before.
        torch.set_num_threads(int(checkpoint.record["threads"]))
        self.network.load_state_dict(checkpoint.weights)
        self.optimiser.load_state_dict(checkpoint.state["optimiser"])
        self.precision.scaler.load_state_dict(checkpoint.state["scaler"])
        torch.set_rng_state(checkpoint.state["random"])
        if self.device.type == "cuda" and "random_cuda" in checkpoint.state:
            torch.cuda.set_rng_state(checkpoint.state["random_cuda"], self.device)
        progress = dict(checkpoint.record["progress"])
        progress["history"] = [EpochRecord(**line) for line in progress["history"]]
        progress["best_score"] = tuple(progress["best_score"])
        self.progress = Progress(**progress)
        self.schedule.restore(checkpoint.record["schedule"])
        self.best = checkpoint.best

    def save(self, watcher: Watcher) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(self.checkpoint())
            watcher.saved(self.checkpoints)
