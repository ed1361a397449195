"""What moves the weights: parameter groups, optimizer and learning rate over time. Knows no data."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from models.training.recipe import Recipe
from models.training.strategy import head_name
from models.zoo.layout import classifiers

NORMS = (
    nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip


def parameter_groups(network: nn.Module, recipe: Recipe, *, pretrained: bool) -> list[dict[str, Any]]:
    """Head and backbone, each with and without weight decay; biases and normalisation are never decayed.

    `scale` is the group's part of the learning rate: `recipe.backbone_rate` for pretrained layers, 1 for the rest.
    """
    heads = {
        id(p)
        for module in (*classifiers(network).values(), network.get_submodule(head_name(network)))
        for p in module.parameters()
    }
    plain = {
        id(p)
        for module in network.modules()
        for name, p in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name.endswith("bias") or p.ndim <= 1
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0 if id(parameter) in heads or not pretrained else recipe.backbone_rate
        decay = 0.0 if id(parameter) in plain else recipe.weight_decay
        groups.setdefault((scale, decay), []).append(parameter)
    return [
        {"params": members, "scale": scale, "weight_decay": decay, "lr": recipe.learning_rate * scale}
        for (scale, decay), members in groups.items()
        if scale
    ]


def make_optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


@dataclass
class Schedule:
    """The learning rate's factor at any step. Only the plateau remembers anything: `drops` and `stalled`."""

    recipe: Recipe
    steps_per_epoch: int
    drops: int = 0
    stalled: int = 0
    best: float = field(default=-math.inf)

    def factor(self, step: int) -> float:
        """The factor for optimizer step `step`, counted from 0 over the whole training."""
        warmup = self.recipe.warmup_epochs * self.steps_per_epoch
        ramp = min(1.0, (step + 1) / (warmup + 1)) if warmup else 1.0
        return ramp * self._after(step, warmup)

    def _after(self, step: int, warmup: float) -> float:
        recipe = self.recipe
        match recipe.schedule:
            case "cosine":
                total = max(1.0, recipe.epochs * self.steps_per_epoch - warmup)
                return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, (step - warmup) / total))))
            case "step":
                return recipe.schedule_factor ** (step // (recipe.schedule_epochs * self.steps_per_epoch))
            case "plateau":
                return recipe.schedule_factor**self.drops
            case _:
                return 1.0

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Sets every group's rate for this step; returns the head's."""
        rate = self.recipe.learning_rate * self.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        return rate

    def epoch_ended(self, score: float) -> None:
        """For the plateau: `score` is the validation accuracy."""
        if score > self.best:
            self.best, self.stalled = score, 0
            return
        self.stalled += 1
        if self.stalled >= self.recipe.schedule_epochs:
            self.drops, self.stalled = self.drops + 1, 0

    def state(self) -> dict[str, float]:
        return {"drops": self.drops, "stalled": self.stalled, "best": self.best}

    def restore(self, state: dict[str, float]) -> None:
        self.drops, self.stalled, self.best = int(state["drops"]), int(state["stalled"]), float(state["best"])
