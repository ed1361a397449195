"""Inception v2 (2015): GoogLeNet with batch normalisation and two 3x3 convolutions for each 5x5 one."""

import torch
from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture

# Figure 5 of the paper: filters of 1x1; 3x3 reduce, 3x3; double 3x3 reduce, double 3x3; pool and projection.
# A block without 1x1 has stride 2 and passes its pooled input through.
BLOCKS = {
    "inception3a": (64, (64, 64), (64, 96), ("average", 32)),
    "inception3b": (64, (64, 96), (64, 96), ("average", 64)),
    "inception3c": (0, (128, 160), (64, 96), ("max", 0)),
    "inception4a": (224, (64, 96), (96, 128), ("average", 128)),
    "inception4b": (192, (96, 128), (96, 128), ("average", 128)),
    "inception4c": (160, (128, 160), (128, 160), ("average", 96)),
    "inception4d": (96, (128, 192), (160, 192), ("average", 96)),
    "inception4e": (0, (128, 192), (192, 256), ("max", 0)),
    "inception5a": (352, (192, 320), (160, 224), ("average", 128)),
    "inception5b": (352, (192, 320), (192, 224), ("max", 128)),
}
# The first convolution makes so many maps of each colour by itself before it mixes them.
STEM_MULTIPLIER = 8


class ConvBnRelu(nn.Sequential):
    """A convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3),
            nn.ReLU(inplace=True),
        )


class Inception(nn.Module):
    """Four branches side by side, joined by channels; at stride 2 three, the last of them the pooled input."""

    def __init__(
        self, inputs: int, single: int, three: tuple[int, int], double: tuple[int, int], pool: tuple[str, int]
    ) -> None:
        super().__init__()
        stride = 1 if single else 2
        kind, projection = pool
        branches: list[nn.Module] = [ConvBnRelu(inputs, single, 1)] if single else []
        branches.append(nn.Sequential(ConvBnRelu(inputs, three[0], 1), ConvBnRelu(three[0], three[1], 3, stride)))
        branches.append(
            nn.Sequential(
                ConvBnRelu(inputs, double[0], 1),
                ConvBnRelu(double[0], double[1], 3),
                ConvBnRelu(double[1], double[1], 3, stride),
            )
        )
        pooled = nn.AvgPool2d(3, stride, 1) if kind == "average" else nn.MaxPool2d(3, stride, 1)
        branches.append(nn.Sequential(pooled, ConvBnRelu(inputs, projection, 1)) if projection else pooled)
        self.branches = nn.ModuleList(branches)
        self.outputs = single + three[1] + double[1] + (projection or inputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class InceptionV2(nn.Module):
    """`features` gives [batch, 1024, 7, 7] from 224x224 images."""

    def __init__(self, num_classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        depthwise = channels * min(STEM_MULTIPLIER, max(1, 64 // channels))
        self.features = nn.Sequential()
        self.features.add_module(
            "conv1",
            nn.Sequential(
                nn.Conv2d(channels, depthwise, 7, stride=2, padding=3, groups=channels, bias=False),
                ConvBnRelu(depthwise, 64, 1),
            ),
        )
        self.features.add_module("pool1", nn.MaxPool2d(3, stride=2, padding=1))
        self.features.add_module("conv2_reduce", ConvBnRelu(64, 64, 1))
        self.features.add_module("conv2", ConvBnRelu(64, 192, 3))
        self.features.add_module("pool2", nn.MaxPool2d(3, stride=2, padding=1))
        width = 192
        for name, (single, three, double, pool) in BLOCKS.items():
            block = Inception(width, single, three, double, pool)
            self.features.add_module(name, block)
            width = block.outputs
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(self.features(x)).flatten(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


@architecture(
    "inception_v2",
    family="Inception",
    paper=Paper(
        "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
        2015,
        "https://arxiv.org/abs/1502.03167",
    ),
    layout=Layout(head="head", trunk=("features.*",)),
    input_size=InputSize(224, minimum=32, reason="the resolution is halved five times"),
    parameters={"dropout": "probability before the classifier, default 0.2"},
    departures=(
        "the name is used for two networks: this is BN-Inception, the one with a full table of its layers; "
        "`inception_v3` is the network of the second paper",
        "the projections of blocks 4c and 4d have 96 filters: with the 128 of the paper's table "
        "the blocks would not have the 576 maps that it gives for them",
        "no auxiliary classifiers: the paper's table has none",
        "dropout before the classifier is 0.2; the paper says only that it was lowered or left out",
    ),
)
def inception_v2(num_classes: int, channels: int, dropout: float = 0.2) -> InceptionV2:
    if not 0 <= dropout < 1:
        raise InvalidArchitecture(f"inception_v2: dropout is {dropout}, expected 0 <= dropout < 1")
    return InceptionV2(num_classes, channels, dropout)
