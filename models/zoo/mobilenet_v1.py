"""MobileNet v1 (2017): depthwise separable convolutions, in the form of the published Keras weights."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture

# Pointwise filters at width 1.0 and the stride of the depthwise convolution before them (table 1 of the paper).
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
# Keras' BatchNormalization, under which the published weights were trained.
EPSILON = 1e-3


class ConvBnRelu6(nn.Module):
    """A 3x3 or 1x1 convolution, batch normalisation, ReLU cut at 6.

    At stride 2 only the right and bottom edges are padded, which is TensorFlow's "same" for even sizes and what
    the published weights expect; PyTorch's symmetric padding shifts every feature map by half a pixel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.pad_right_and_bottom = stride == 2
        padding = 0 if self.pad_right_and_bottom else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON, momentum=0.01)
        self.relu6 = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.pad_right_and_bottom:
            x = F.pad(x, (0, 1, 0, 1))
        y: Tensor = self.relu6(self.bn(self.conv(x)))
        return y


class SeparableConv(nn.Sequential):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution that mixes the channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            OrderedDict(
                depthwise=ConvBnRelu6(inputs, inputs, 3, stride, groups=inputs),
                pointwise=ConvBnRelu6(inputs, outputs, 1),
            )
        )


class MobileNetV1(nn.Module):
    """`features` is the first convolution and 13 separable ones; `width` multiplies every filter count."""

    def __init__(self, num_classes: int, channels: int, width: float, dropout: float) -> None:
        super().__init__()
        filters = int(32 * width)
        blocks: list[nn.Module] = [ConvBnRelu6(channels, filters, 3, stride=2)]
        for full_width, stride in BLOCKS:
            inputs, filters = filters, int(full_width * width)
            blocks.append(SeparableConv(inputs, filters, stride))
        self.features = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(self.features(x)).flatten(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


PAPER = Paper(
    "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    2017,
    "https://arxiv.org/abs/1704.04861",
)
LAYOUT = Layout(head="head", trunk=("features.*",))
DEPARTURES = (
    "stride-2 layers pad right and bottom only, as in the published weights",
    "batch normalisation has epsilon 1e-3 and the activation is relu6, as in the published weights",
    "the classifier is a linear layer on pooled features, which equals Keras' 1x1 convolution on a 1x1 map",
    "dropout of 0.001 before the classifier is Keras'; the paper has none",
)
PARAMETERS = {"dropout": "probability before the classifier, default 0.001"}


@architecture(
    "mobilenet_v1",
    family="MobileNet v1",
    paper=PAPER,
    layout=LAYOUT,
    input_size=InputSize(224),
    parameters={"width": "multiplier of every layer's filters, 0 < width <= 1, default 1.0", **PARAMETERS},
    departures=DEPARTURES,
)
def mobilenet_v1(num_classes: int, channels: int, width: float = 1.0, dropout: float = 1e-3) -> MobileNetV1:
    if not 0 < width <= 1 or int(32 * width) < 1:
        raise InvalidArchitecture(f"mobilenet_v1: width is {width}, expected a number from 1/32 to 1")
    if not 0 <= dropout < 1:
        raise InvalidArchitecture(f"mobilenet_v1: dropout is {dropout}, expected 0 <= dropout < 1")
    return MobileNetV1(num_classes, channels, width, dropout)


def _at_width(
    name: str,
    *,
    width: float,
) -> None:
    @architecture(
        name,
        family="MobileNet v1",
        paper=PAPER,
        layout=LAYOUT,
        input_size=InputSize(224),
        parameters=PARAMETERS,
        departures=DEPARTURES,
    )
    def builder(num_classes: int, channels: int, dropout: float = 1e-3) -> MobileNetV1:
        return mobilenet_v1(num_classes, channels, width, dropout)


_at_width("mobilenet_v1_075", width=0.75)
_at_width("mobilenet_v1_050", width=0.5)
_at_width("mobilenet_v1_025", width=0.25)
