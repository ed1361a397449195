"""What a network is evaluated on: prepared images, or features of them, a batch at a time."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.normalise import Normalise
from models.training.pixels import Pixels


class EvalInputs(Protocol):
    """The network's inputs in order, float32 [stop - start, ...] at a time."""

    def __len__(self) -> int: ...
    def batch(self, start: int, stop: int) -> Tensor: ...


@dataclass(frozen=True)
class EvalImages:
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
class EvalFeatures:
    """Cached features, float32 [n, ...] on the device."""

    features: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, start: int, stop: int) -> Tensor:
        return self.features[start:stop]


@dataclass(frozen=True)
class EvalShare:
    """Those of `whole` that are one rank's."""

    whole: EvalInputs
    share: slice

    def __len__(self) -> int:
        return int(self.share.stop - self.share.start)

    def batch(self, start: int, stop: int) -> Tensor:
        return self.whole.batch(self.share.start + start, self.share.start + stop)


@dataclass(frozen=True)
class ValidationSet:
    """What decides which epoch was best: inputs in batches, and their class indices (int64 [n])."""

    inputs: EvalInputs
    targets: NDArray[np.int64]
