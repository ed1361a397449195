"""The two VGG networks (2014) that torchvision lacks: A-LRN and C. The others are torchvision's."""

from torch import nn
from torchvision.models.vgg import VGG

from models.errors import InvalidArchitecture
from models.zoo.alexnet import response_norm
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture

Layer = tuple[int, int] | str

# Table 1 of the paper: (filters, kernel) of each convolution, "norm" and "pool".
A_LRN: tuple[Layer, ...] = (
    (64, 3), "norm", "pool",
    (128, 3), "pool",
    (256, 3), (256, 3), "pool",
    (512, 3), (512, 3), "pool",
    (512, 3), (512, 3), "pool",
)  # fmt: skip
C: tuple[Layer, ...] = (
    (64, 3), (64, 3), "pool",
    (128, 3), (128, 3), "pool",
    (256, 3), (256, 3), (256, 1), "pool",
    (512, 3), (512, 3), (512, 1), "pool",
    (512, 3), (512, 3), (512, 1), "pool",
)  # fmt: skip

PAPER = Paper(
    "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, "https://arxiv.org/abs/1409.1556"
)
LAYOUT = Layout(head="classifier.6", trunk=("features.*", "avgpool", "classifier.*"))
INPUT = InputSize(224, minimum=32, reason="the resolution is halved five times")
PARAMETERS = {"dropout": "probability after each hidden full connection, default 0.5"}
ANY_SIZE = "an adaptive average pool before the first full connection allows sizes other than 224x224"


def _features(table: tuple[Layer, ...], channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in table:
        if layer == "pool":
            layers.append(nn.MaxPool2d(2))
        elif layer == "norm":
            layers.append(response_norm())
        elif isinstance(layer, tuple):
            filters, kernel = layer
            layers += [nn.Conv2d(channels, filters, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
            channels = filters
    return nn.Sequential(*layers)


def _vgg(table: tuple[Layer, ...], num_classes: int, channels: int, dropout: float) -> VGG:
    if not 0 <= dropout < 1:
        raise InvalidArchitecture(f"vgg: dropout is {dropout}, expected 0 <= dropout < 1")
    return VGG(_features(table, channels), num_classes=num_classes, init_weights=True, dropout=dropout)


@architecture(
    "vgg11_lrn",
    family="VGG",
    paper=PAPER,
    layout=LAYOUT,
    input_size=INPUT,
    parameters=PARAMETERS,
    departures=(ANY_SIZE, "the normalisation's parameters are AlexNet's, to which the paper refers"),
)
def vgg11_lrn(num_classes: int, channels: int, dropout: float = 0.5) -> VGG:
    return _vgg(A_LRN, num_classes, channels, dropout)


@architecture(
    "vgg16_c",
    family="VGG",
    paper=PAPER,
    layout=LAYOUT,
    input_size=INPUT,
    parameters=PARAMETERS,
    departures=(ANY_SIZE,),
)
def vgg16_c(num_classes: int, channels: int, dropout: float = 0.5) -> VGG:
    return _vgg(C, num_classes, channels, dropout)
