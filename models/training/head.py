"""The head by itself: learning from cached features with the backbone left alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.linear import FittedHead, fit_head
from models.training.progress import EpochRecord, FitResult, OnProgress
from models.training.recipe import Recipe
from models.training.strategy import head_dropout
from models.zoo.layout import split_network


class TrainableHead:
    """The network's own head, with the dropout before it, by itself; what it learns, the whole network has."""

    def __init__(self, whole: nn.Module) -> None:
        dropout = head_dropout(whole)
        self.network = nn.Sequential(dropout or nn.Identity(), split_network(whole).head)

    def train(self) -> None:
        self.network.train()


def head_groups(head: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Weights with decay, biases without."""
    decayed = [p for p in head.parameters() if p.ndim > 1]
    plain = [p for p in head.parameters() if p.ndim <= 1]
    groups = [(decayed, recipe.weight_decay), (plain, 0.0)]
    return [
        {"params": params, "scale": 1.0, "weight_decay": decay, "lr": recipe.learning_rate}
        for params, decay in groups
        if params
    ]


def linear_head(network: nn.Module) -> nn.Linear | None:
    """The head where it is one linear layer with a bias, which regression solves exactly; else None."""
    head = split_network(network).head
    return head if isinstance(head, nn.Linear) and head.bias is not None else None


def rows_to_keep(head: nn.Linear, labels: Sequence[str], kept: Sequence[str]) -> tuple[Tensor, Tensor] | None:
    """Weight [classes, n] and bias [classes] with the rows of labels that the head knew, zeros for the others.

    None where it knew none.
    """
    if not kept:
        return None
    known = torch.tensor([label in set(kept) for label in labels])
    weight, bias = head.weight.detach().cpu(), head.bias.detach().cpu()
    return weight * known[:, None], bias * known


def fit_linear_head(
    head: nn.Linear,
    views: Tensor,
    targets: Tensor,
    *,
    seed: int,
    groups: Sequence[str],
    class_weights: Tensor | None,
    start: tuple[Tensor, Tensor] | None,
    on_progress: OnProgress,
) -> FittedHead:
    """Fits the head by regression, in place.

    `views` are float32 features [v, m, n], the first of them plain; targets int64 [m]; `class_weights` float32
    [classes]; `start` weight [classes, n] and bias [classes] to stay near.
    """
    found = fit_head(
        views,
        targets,
        head.out_features,
        seed=seed,
        groups=groups,
        class_weights=class_weights,
        start=start,
        on_progress=on_progress,
    )
    with torch.no_grad():
        head.weight.copy_(found.weight)
        head.bias.copy_(found.bias)
    head.cpu()
    return found


@torch.inference_mode()
def regression_result(
    head: nn.Linear, features: Tensor, targets: Tensor, validation: Tensor, validation_targets: NDArray[np.int64]
) -> FitResult:
    """What a regression reached, as a history of one record; it has no epochs.

    Features float32 [m, n], targets int64 [m]; the same of the validation images.
    """
    logits, held_out = head(features), head(validation)
    truth = torch.from_numpy(validation_targets)
    record = EpochRecord(
        epoch=1,
        loss=float(F.cross_entropy(logits, targets)),
        accuracy=float((logits.argmax(1) == targets).float().mean()),
        validation_loss=float(F.cross_entropy(held_out, truth)),
        validation_accuracy=float((held_out.argmax(1) == truth).float().mean()),
        learning_rate=0.0,
        seconds=0.0,
    )
    return FitResult((record,), 1, "solved")
