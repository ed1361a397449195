"""LeNet-5 (1998): two convolutions, two subsamplings, three full connections."""

from collections.abc import Callable

from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.registry import architecture

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
POOLS: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class LeNet5(nn.Module):
    """C1, S2, C3, S4 are `features`; C5 and F6 are `neck`, and `head` is the output layer.

    C5 is called a convolution in the paper because its 5x5 window happens to cover all of S4 at 32x32.
    """

    def __init__(self, num_classes: int, channels: int, activation: str, pool: str) -> None:
        super().__init__()
        act, subsample = ACTIVATIONS[activation], POOLS[pool]
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5),
            act(),
            subsample(2),
            nn.Conv2d(6, 16, 5),
            act(),
            subsample(2),
        )
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(16 * 5 * 5, 120), act(), nn.Linear(120, 84), act())
        self.head = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.neck(self.features(x)))
        return logits


@architecture(
    "lenet5",
    family="LeNet",
    paper=Paper(
        "Gradient-based learning applied to document recognition", 1998, "https://doi.org/10.1109/5.726791"
    ),
    layout=Layout(head="head", trunk=("features.*", "neck")),
    input_size=InputSize(
        32, minimum=32, fixed=True, reason="C5 is connected to a 5x5 map, which only 32x32 gives"
    ),
    parameters={
        "activation": "tanh (the paper's, default) or relu",
        "pool": "average (the paper's, default) or max",
    },
    departures=(
        "C3 is connected to all of S2's maps, as taught today, not by the paper's table I",
        "the subsampling layers are plain averages without a trained coefficient, bias and squashing",
        "tanh is not scaled to 1.7159 tanh(2x/3)",
        "the output is a linear layer under softmax instead of Euclidean radial basis functions",
    ),
)
def lenet5(num_classes: int, channels: int, activation: str = "tanh", pool: str = "average") -> LeNet5:
    for given, known, what in ((activation, ACTIVATIONS, "activation"), (pool, POOLS, "pool")):
        if given not in known:
            raise InvalidArchitecture(f"lenet5: {what} is {given!r}, expected {' or '.join(known)}")
    return LeNet5(num_classes, channels, activation, pool)
