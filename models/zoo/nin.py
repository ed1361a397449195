"""Network in Network (2014): every convolution is a small perceptron, and classes are averaged, not connected."""

from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture


class MlpConv(nn.Sequential):
    """A convolution and two 1x1 convolutions, each with ReLU: a perceptron slid over the map."""

    def __init__(
        self, inputs: int, widths: tuple[int, int, int], kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        first, second, third = widths
        super().__init__(
            nn.Conv2d(inputs, first, kernel, stride, padding),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, third, 1),
            nn.ReLU(inplace=True),
        )


class NetworkInNetwork(nn.Module):
    """`head` makes one map per class from `features` and averages each over the image: no full connection.

    Pools take the incomplete windows at the edge too, as the authors' frameworks do: 54 -> 27, 32 -> 16.
    """

    def __init__(self, features: nn.Sequential, width: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Sequential(
            nn.Conv2d(width, num_classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(1)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    # Logits pass a ReLU, so a class whose map starts below zero everywhere would never learn.
                    nn.init.constant_(layer.bias, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


PAPER = Paper("Network In Network", 2014, "https://arxiv.org/abs/1312.4400")
LAYOUT = Layout(head="head", trunk=("features.*",), backbone="features")
PARAMETERS = {"dropout": "probability between the mlpconv layers, default 0.5"}
START = "filters start as He et al. propose, with small positive biases"


@architecture(
    "nin",
    family="Network in Network",
    paper=PAPER,
    layout=LAYOUT,
    input_size=InputSize(224, minimum=67, reason="its pools need 67 pixels"),
    parameters=PARAMETERS,
    departures=(
        "the paper describes its networks for 32x32 images (`nin_cifar`); this is the authors' ImageNet network "
        "of the same construction, as they published it in Caffe's model zoo",
        START,
    ),
)
def nin(num_classes: int, channels: int, dropout: float = 0.5) -> NetworkInNetwork:
    features = nn.Sequential(
        MlpConv(channels, (96, 96, 96), 11, stride=4),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        MlpConv(96, (256, 256, 256), 5, padding=2),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        MlpConv(256, (384, 384, 384), 3, padding=1),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        _dropout(dropout),
        nn.Conv2d(384, 1024, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(1024, 1024, 1),
        nn.ReLU(inplace=True),
    )
    return NetworkInNetwork(features, 1024, num_classes)


@architecture(
    "nin_cifar",
    family="Network in Network",
    paper=PAPER,
    layout=LAYOUT,
    input_size=InputSize(32, minimum=8, reason="its pools need 8 pixels"),
    parameters=PARAMETERS,
    departures=(START,),
)
def nin_cifar(num_classes: int, channels: int, dropout: float = 0.5) -> NetworkInNetwork:
    features = nn.Sequential(
        MlpConv(channels, (192, 160, 96), 5, padding=2),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        _dropout(dropout),
        MlpConv(96, (192, 192, 192), 5, padding=2),
        nn.AvgPool2d(3, stride=2, ceil_mode=True),
        _dropout(dropout),
        nn.Conv2d(192, 192, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(192, 192, 1),
        nn.ReLU(inplace=True),
    )
    return NetworkInNetwork(features, 192, num_classes)


def _dropout(probability: float) -> nn.Dropout:
    if not 0 <= probability < 1:
        raise InvalidArchitecture(f"nin: dropout is {probability}, expected 0 <= dropout < 1")
    return nn.Dropout(probability)
