"""Which layers learn: the choice, and what it does to a network. Knows no optimizer and no data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.training.recipe import Recipe
from models.zoo.layout import classifiers, stages
from models.zoo.registry import built

Strategy = Literal["head", "partial", "full"]

# Below the first, moving the backbone's weights fits the images more than the classes; from the second on there
# are enough images to move all of them (CS231n's notes on transfer learning; Kornblith et al. 2019, figure 5).
FEW_PER_CLASS = 200
MANY_PER_CLASS = 1000
# How much of the backbone `partial` trains: its last stages, until they hold this share of the layers.
PARTIAL_SHARE = 0.3


@dataclass(frozen=True)
class StrategyChoice:
    strategy: Strategy
    reason: str


def choose_strategy(
    requested: str, targets: NDArray[np.int64], classes: int, *, pretrained: bool, separable: bool = True
) -> StrategyChoice:
    """The strategy to follow, and why; `targets` int64 [n] are the class indices of the training images.

    `separable` says whether the network has one head that can be taken off its backbone.
    """
    if not pretrained:
        if requested in ("auto", "full"):
            return StrategyChoice("full", "There are no weights to start from, so every layer has to learn.")
        return StrategyChoice(
            "full",
            f"Asked for {requested!r}, but there are no weights to start from, so every layer has to learn.",
        )
    if requested != "auto":
        return StrategyChoice(requested, f"Asked for {requested!r}.")  # type: ignore[arg-type]
    if not separable:
        return StrategyChoice("full", "The network does not classify by one head, so it is trained as a whole.")
    per_class = int(np.median(np.bincount(targets, minlength=classes)))
    counted = f"{per_class} training images per class (median of {classes})"
    if per_class < FEW_PER_CLASS:
        return StrategyChoice(
            "head",
            f"{counted}: below {FEW_PER_CLASS} a new head on frozen features generalises at least as well as "
            "fine-tuning and takes seconds.",
        )
    if per_class < MANY_PER_CLASS:
        return StrategyChoice(
            "partial",
            f"{counted}: enough to adapt the last stages, too few (below {MANY_PER_CLASS}) for all of them.",
        )
    return StrategyChoice("full", f"{counted}: {MANY_PER_CLASS} or more are enough to adapt every layer.")


def freeze(network: nn.Module, strategy: Strategy, recipe: Recipe, *, pretrained: bool) -> "PartlyFrozen":
    """Leaves gradients only to what the strategy trains, in place."""
    for parameter in network.parameters():
        parameter.requires_grad_(strategy == "full")
    for module in _trained_modules(network, strategy):
        for parameter in module.parameters():
            parameter.requires_grad_(True)
    keep_statistics = recipe.batch_norm == "frozen" or (recipe.batch_norm == "auto" and pretrained)
    return PartlyFrozen(network, strategy, keep_statistics)


@dataclass(frozen=True)
class PartlyFrozen:
    """A network of which some parts must not change while the rest learns.

    `requires_grad = False` does not stop batch normalisation from updating its running statistics; only
    evaluation mode does, and every `network.train()` would undo it.
    """

    network: nn.Module
    strategy: Strategy
    keep_statistics: bool

    def train(self) -> None:
        """Training mode for what learns, evaluation mode for what is frozen, its dropout included."""
        self.network.train(self.strategy == "full")
        for module in _trained_modules(self.network, self.strategy):
            module.train()
        dropout = head_dropout(self.network)
        if dropout is not None:
            dropout.train()
        if self.keep_statistics:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()


def head_name(network: nn.Module) -> str:
    """The dotted name of the module that maps features to logits."""
    return built(network).architecture.layout.head


def head_dropout(network: nn.Module) -> nn.Module | None:
    """The dropout layer right before the head, if any: it belongs to the head and acts while that learns."""
    parent, _, name = head_name(network).rpartition(".")
    last: nn.Module | None = None
    for child_name, child in network.get_submodule(parent).named_children():
        if child_name == name:
            return last if isinstance(last, nn.modules.dropout._DropoutNd) else None
        last = child
    return None


def _trained_modules(network: nn.Module, strategy: Strategy) -> list[nn.Module]:
    heads = list(classifiers(network).values())
    if strategy == "full":
        return [network]
    if strategy == "head":
        return [*heads, network.get_submodule(head_name(network))]
    return [*heads, network.get_submodule(head_name(network)), *_last_stages(network)]


def _last_stages(network: nn.Module) -> list[nn.Module]:
    found = stages(network)
    layer_counts = [sum(isinstance(m, nn.Linear | nn.Conv2d) for m in stage.modules()) for stage in found]
    total = max(1, sum(layer_counts))
    kept: list[nn.Module] = []
    share = 0.0
    for stage, count in zip(reversed(found), reversed(layer_counts), strict=True):
        if kept and share + count / total > 2 * PARTIAL_SHARE:
            break
        kept.extend(stage)
        share += count / total
        if share >= PARTIAL_SHARE:
            break
    return kept


def set_dropout(network: nn.Module, probability: float) -> None:
    """Gives every dropout layer that probability."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = probability
