"""A network as served: pixels in, logits and probabilities out. What is exported, and what the gate refers to."""

import copy

import torch
from torch import Tensor, nn

from models.normalise import Normalise
from models.spec import Preprocessing


class Served(nn.Module):
    """uint8 `[n, height, width, 3]` RGB to float32 logits and `softmax(logits / temperature)`, `[n, classes]`.

    Holds a copy of the network, on the CPU, in float32 and in eval mode: auxiliary heads are gone, and the
    network itself stays as the caller had it.
    """

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, *, channels: int = 3, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.normalise = Normalise(preprocessing, channels)
        self.network = copy.deepcopy(network).cpu().float()
        self.temperature = temperature
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.network(self.normalise(image))
        return logits, torch.softmax(logits / self.temperature, dim=1)


class ServedBackbone(nn.Module):
    """uint8 `[n, height, width, 3]` RGB to what the backbone makes of it, float32; a copy, as in `Served`."""

    def __init__(self, backbone: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.normalise = Normalise(preprocessing)
        self.network = copy.deepcopy(backbone).cpu().float()
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.network(self.normalise(image))
        return features
