"""A small network with everything that an export must survive."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.artifact import Manifest
from models.normalise import Normalise
from models.parity import ParityReport
from models.spec import Preprocessing

LABELS = ("ant", "bee", "crane", "Ærø", "maillot", "maillot")
TEMPERATURE = 1.7


class SmallNetwork(nn.Module):
    """Batch norm, a depthwise convolution, a residual, dropout, and an auxiliary head in training."""

    def __init__(self, classes: int = len(LABELS), channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(64, classes)
        self.auxiliary = nn.Linear(64, classes)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.first(image)
        features = self.dropout(torch.flatten(self.pool(maps + self.depthwise(maps)), 1))
        if self.training:
            return self.head(features), self.auxiliary(features)
        logits: Tensor = self.head(features)
        return logits


@dataclass(frozen=True)
class MadeArtifact:
    folder: Path
    manifest: Manifest
    report: ParityReport


def make_network(preprocessing: Preprocessing, images: NDArray[np.uint8], channels: int = 3) -> SmallNetwork:
    """Its batch norm has seen photographs and its logits are far apart, as those of a trained network are."""
    torch.manual_seed(3)
    network = SmallNetwork(channels=channels)
    with torch.no_grad():
        network.head.weight.mul_(20)
        for _ in range(30):
            network(Normalise(preprocessing, channels)(torch.from_numpy(images)))
    return network
