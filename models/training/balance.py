"""Making up for classes of unequal size: by the loss or by drawing, never both. Knows no images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def class_weights(balance: str, targets: NDArray[np.int64], classes: int, device: torch.device) -> Tensor | None:
    """A weight for each class, in inverse proportion to its images, 1 on average over them; float32 [classes]."""
    if balance != "weights":
        return None
    counts = np.bincount(targets, minlength=classes).clip(min=1)
    return torch.tensor(len(targets) / (classes * counts), dtype=torch.float32, device=device)


def sampling_weights(balance: str, targets: NDArray[np.int64]) -> Tensor | None:
    """A weight for each image under which every class is drawn equally often; float64 [n]."""
    if balance != "sampler":
        return None
    return torch.from_numpy(1.0 / np.bincount(targets)[targets])
