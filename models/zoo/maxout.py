"""Maxout (2013): each unit answers with the largest of several linear functions, under dropout everywhere."""

import torch
from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture


class Maxout(nn.Module):
    """The largest of `pieces` neighbouring channels: [batch, units * pieces, ...] -> [batch, units, ...]."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.reshape(x.shape[0], x.shape[1] // self.pieces, self.pieces, *x.shape[2:])
        return torch.amax(pieces, dim=2)


class MaxoutNetwork(nn.Module):
    """Three convolutional maxout layers with pooling, and one full maxout layer of 500 units of 5 pieces.

    Pools take the incomplete windows at the edge too, as cuda-convnet does: 33 -> 16, 15 -> 7, 9 -> 5.
    """

    def __init__(self, num_classes: int, channels: int, dropout: float, dropout_input: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Dropout(dropout_input),
            nn.Conv2d(channels, 96 * 2, 8, padding=4),
            Maxout(2),
            nn.MaxPool2d(4, stride=2, ceil_mode=True),
            nn.Dropout(dropout),
            nn.Conv2d(96, 192 * 2, 8, padding=3),
            Maxout(2),
            nn.MaxPool2d(4, stride=2, ceil_mode=True),
            nn.Dropout(dropout),
            nn.Conv2d(192, 192 * 2, 5, padding=3),
            Maxout(2),
            nn.MaxPool2d(2, stride=2, ceil_mode=True),
        )
        self.neck = nn.Sequential(
            nn.Dropout(dropout), nn.Flatten(), nn.Linear(192 * 5 * 5, 500 * 5), Maxout(5), nn.Dropout(dropout)
        )
        self.head = nn.Linear(500, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.neck(self.features(x)))
        return logits


@architecture(
    "maxout",
    family="Maxout",
    paper=Paper("Maxout Networks", 2013, "https://arxiv.org/abs/1302.4389"),
    layout=Layout(head="head", trunk=("features.*", "neck")),
    input_size=InputSize(32, fixed=True, reason="the full maxout layer is made for a 5x5 map"),
    parameters={
        "dropout": "probability between the layers, default 0.5",
        "dropout_input": "probability of leaving out an input value, default 0.2",
    },
    departures=(
        "this is the paper's CIFAR-10 network, with the sizes of the configuration that its authors published",
        "the length of each filter is not limited while training",
        "images are not whitened: they are normalised as for every other architecture",
    ),
)
def maxout(num_classes: int, channels: int, dropout: float = 0.5, dropout_input: float = 0.2) -> MaxoutNetwork:
    for name, value in (("dropout", dropout), ("dropout_input", dropout_input)):
        if not 0 <= value < 1:
            raise InvalidArchitecture(f"maxout: {name} is {value}, expected 0 <= {name} < 1")
    return MaxoutNetwork(num_classes, channels, dropout, dropout_input)
