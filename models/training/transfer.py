"""A network for new labels out of one for old labels; the head is kept for the labels that stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import WeightsMismatch
from models.zoo.layout import classifiers
from models.zoo.registry import build


@dataclass(frozen=True)
class Transferred:
    """`kept` are the labels whose rows of the head were carried over, in the new order."""

    network: nn.Module
    kept: tuple[str, ...]


def transfer_weights(
    architecture: str,
    params: Mapping[str, Any],
    state: Mapping[str, Tensor],
    old_labels: Sequence[str],
    new_labels: Sequence[str],
) -> Transferred:
    """A network with `len(new_labels)` outputs that starts where `state`, trained for `old_labels`, ended.

    Rows of labels that are new are freshly drawn. Raises WeightsMismatch when the state is of another network.
    """
    network = build(architecture, len(new_labels), **params)
    heads = classifiers(network)
    own = {f"{path}.{name}" for path, layer in heads.items() for name, _ in layer.named_parameters()}
    try:
        missing, unexpected = network.load_state_dict(
            {k: v for k, v in state.items() if k not in own}, strict=False
        )
    except RuntimeError as error:
        raise WeightsMismatch(f"the model's weights do not fit {architecture}: {error}") from error
    if set(missing) - own or unexpected:
        raise WeightsMismatch(
            f"the model's weights do not fit {architecture}: missing {sorted(set(missing) - own)}, "
            f"unexpected {sorted(unexpected)}"
        )
    row_of = {label: row for row, label in enumerate(old_labels)}
    kept = tuple(label for label in new_labels if label in row_of)
    new_rows = [i for i, label in enumerate(new_labels) if label in row_of]
    old_rows = [row_of[label] for label in kept]
    with torch.no_grad():
        for name in own & state.keys():
            network.get_parameter(name)[new_rows] = state[name][old_rows]
    return Transferred(network, kept)
