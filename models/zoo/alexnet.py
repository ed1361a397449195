"""AlexNet (2012): five convolutions with overlapping pools and response normalisation, three full connections."""

from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture


def response_norm() -> nn.LocalResponseNorm:
    """Local response normalisation over 5 neighbouring maps with the paper's k = 2, alpha = 1e-4, beta = 0.75.

    PyTorch divides alpha by the number of neighbours and the paper does not, hence 5e-4.
    """
    return nn.LocalResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2.0)


class AlexNet2012(nn.Module):
    """`features` gives [batch, 256, 6, 6] from 227x227 images; `neck` is the two hidden full connections."""

    def __init__(self, num_classes: int, channels: int, dropout: float, towers: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 96, 11, stride=4),
            nn.ReLU(inplace=True),
            response_norm(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(96, 256, 5, padding=2, groups=towers),
            nn.ReLU(inplace=True),
            response_norm(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1, groups=towers),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, groups=towers),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.neck = nn.Sequential(
            nn.Flatten(),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(4096, num_classes)
        self._start_as_in_the_paper()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.neck(self.features(x)))
        return logits

    def _start_as_in_the_paper(self) -> None:
        """Weights from N(0, 0.01^2); biases of the 2nd, 4th, 5th convolution and the hidden layers 1, others 0."""
        layers = [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        for number, layer in enumerate(layers, start=1):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 1.0 if number in (2, 4, 5, 6, 7) else 0.0)


@architecture(
    "alexnet_2012",
    family="AlexNet",
    paper=Paper(
        "ImageNet Classification with Deep Convolutional Neural Networks",
        2012,
        "https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
    ),
    layout=Layout(head="head", trunk=("features.*", "neck")),
    input_size=InputSize(227, fixed=True, reason="the first full connection is made for a 6x6 map"),
    parameters={
        "dropout": "probability after each hidden full connection, default 0.5",
        "towers": "1 (default), or 2 for the paper's split of convolutions 2, 4 and 5 over two GPUs",
    },
    departures=(
        "one tower by default: convolutions 2, 4 and 5 see all maps of the layer before (62.4 M parameters); "
        "`towers=2` gives the paper's 60 M",
        "images are 227x227; the paper's 224 does not give 55x55 maps at stride 4 without padding",
        "dropout follows the hidden layers and scales while training; the paper halves the outputs in testing",
    ),
)
def alexnet_2012(num_classes: int, channels: int, dropout: float = 0.5, towers: int = 1) -> AlexNet2012:
    if towers not in (1, 2):
        raise InvalidArchitecture(f"alexnet_2012: towers is {towers}, expected 1 or 2")
    if not 0 <= dropout < 1:
        raise InvalidArchitecture(f"alexnet_2012: dropout is {dropout}, expected 0 <= dropout < 1")
    return AlexNet2012(num_classes, channels, dropout, towers)
