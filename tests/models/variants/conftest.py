"""A network that integers are faster for, as an artifact holds it, and images to calibrate and to judge by."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.export import to_onnx
from models.normalise import Normalise
from models.photographs import photographs
from models.served import Served
from models.spec import Preprocessing

PREPROCESSING = Preprocessing(height=64, width=80, resize=88)
LABELS = ("ant", "bee", "crane", "Ærø", "maillot", "maillot")
TEMPERATURE = 1.7


class Network(nn.Module):
    """What variants meet: strides, a depthwise convolution, both kinds of cut, a residual and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU6()
        )
        self.pointwise = nn.Sequential(nn.Conv2d(32, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(96, 96, 3, padding=1, bias=False), nn.BatchNorm2d(96), nn.ReLU())
        self.wider = nn.Sequential(nn.Conv2d(96, 128, 3, 2, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(128, len(LABELS))

    def forward(self, image: Tensor) -> Tensor:
        narrow = self.pointwise(self.depthwise(self.first(image)))
        maps = self.wider(narrow + self.wide(narrow))
        logits: Tensor = self.head(torch.flatten(self.pool(maps), 1))
        return logits


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    """136 views: each of 68 photographs, and its mirror image."""
    views = photographs(PREPROCESSING)
    return np.concatenate([views, views[:, :, ::-1]])


@pytest.fixture(scope="session")
def calibration(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pictures[::2]


@pytest.fixture(scope="session")
def judged(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pictures[1::2]


@pytest.fixture(scope="session")
def network(calibration: NDArray[np.uint8]) -> nn.Module:
    """Its batch norm has seen photographs, and its logits are far apart, as those of a trained network are."""
    torch.manual_seed(3)
    made = Network()
    pixels = Normalise(PREPROCESSING)(torch.from_numpy(calibration))
    with torch.no_grad():
        for _ in range(20):
            made(pixels)
        made.eval()
        made.head.weight.mul_(40)
        made.head.bias.copy_(-made(pixels).mean(0) + made.head.bias)
    return made


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> Path:
    file = tmp_path_factory.mktemp("float32") / "model.onnx"
    to_onnx(network, file, preprocessing=PREPROCESSING, labels=LABELS, temperature=TEMPERATURE)
    return file


@pytest.fixture(scope="session")
def labels(judged: NDArray[np.uint8], network: nn.Module) -> NDArray[np.int64]:
    """What the network answers, but for every tenth image: so that it is right in nine of ten."""
    served = Served(network, PREPROCESSING, temperature=TEMPERATURE)
    with torch.inference_mode():
        found = served(torch.from_numpy(judged))[0].argmax(1).numpy().astype(np.int64)
    found[::10] = (found[::10] + 1) % len(LABELS)
    return found
