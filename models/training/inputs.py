"""What a network is evaluated on: images as serving would show them, or cached features, a batch at a time."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.normalise import Normalise
from models.training.data import Pixels


class Inputs(Protocol):
    """Network inputs in order, a batch at a time."""

    def __len__(self) -> int: ...
    def batch(self, start: int, stop: int) -> Tensor: ...


@dataclass(frozen=True)
class PlainImages:
    """Prepared images as serving would show them."""

    pixels: Pixels
    normalise: Normalise
    device: torch.device

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, start: int, stop: int) -> Tensor:
        inputs: Tensor = self.normalise(torch.from_numpy(self.pixels.array[start:stop].copy()).to(self.device))
        return inputs


@dataclass(frozen=True)
class PlainFeatures:
    """Cached features, float32 [n, ...] on the device."""

    features: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, start: int, stop: int) -> Tensor:
        return self.features[start:stop]


@dataclass(frozen=True)
class Validation:
    """What decides which epoch was best: inputs in batches, and their class indices (int64 [n])."""

    inputs: Inputs
    targets: NDArray[np.int64]
