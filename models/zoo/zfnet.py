"""ZFNet (2013): AlexNet with a smaller, denser first layer, found by looking at what its filters had learnt."""

from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.alexnet import response_norm
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture

# Filters of layers three to five: both are in the paper, figure 3 and the best single network of table 2.
WIDTHS = {"figure-3": (384, 384, 256), "table-2": (512, 1024, 512)}


class ZFNet(nn.Module):
    """`features` gives [batch, n, 6, 6] from 224x224 images; `neck` is the two hidden full connections."""

    def __init__(self, num_classes: int, channels: int, widths: tuple[int, int, int], dropout: float) -> None:
        super().__init__()
        third, fourth, fifth = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, 96, 7, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            response_norm(),
            nn.Conv2d(96, 256, 5, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            response_norm(),
            nn.Conv2d(256, third, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(third, fourth, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(fourth, fifth, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.neck = nn.Sequential(
            nn.Flatten(),
            nn.Linear(fifth * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(4096, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.neck(self.features(x)))
        return logits


@architecture(
    "zfnet",
    family="ZFNet",
    paper=Paper("Visualizing and Understanding Convolutional Networks", 2013, "https://arxiv.org/abs/1311.2901"),
    layout=Layout(head="head", trunk=("features.*", "neck")),
    input_size=InputSize(224, fixed=True, reason="the first full connection is made for a 6x6 map"),
    parameters={
        "widths": "filters of layers three to five: table-2 (512, 1024, 512; default) or figure-3 (384, 384, 256)",
        "dropout": "probability after each hidden full connection, default 0.5",
    },
    departures=(
        "the default widths are 512, 1024 and 512, those of the paper's best single network and of the lectures; "
        "its figure 3 has 384, 384 and 256",
        "contrast normalisation across maps is AlexNet's local response normalisation",
        "filters are not renormalised to a root mean square of 0.1 while training",
        "weights start as PyTorch starts them",
    ),
)
def zfnet(num_classes: int, channels: int, widths: str = "table-2", dropout: float = 0.5) -> ZFNet:
    if widths not in WIDTHS:
        raise InvalidArchitecture(f"zfnet: widths is {widths!r}, expected {' or '.join(WIDTHS)}")
    if not 0 <= dropout < 1:
        raise InvalidArchitecture(f"zfnet: dropout is {dropout}, expected 0 <= dropout < 1")
    return ZFNet(num_classes, channels, WIDTHS[widths], dropout)
