"""A network from a pattern such as `INPUT -> [[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*1 -> FC`.

The form that lectures teach (CS231n, "ConvNet architectures"); sizes are checked before anything is built.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import InputSize, Layout, Paper
from models.zoo.pattern import Step, fault, parse
from models.zoo.registry import architecture

DEFAULT_PATTERN = "INPUT -> [[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*1 -> FC"
# One number for all layers, or one for each.
PerLayer = int | Sequence[int]

MAX_PARAMETERS = 300_000_000
MAX_VALUE = 65_536
FORMULA = "(N - F + 2P)/S + 1"


@dataclass(frozen=True)
class Sizes:
    """One value per CONV, POOL or hidden FC, in the order of the pattern."""

    filters: list[int]
    kernel: list[int]
    stride: list[int]
    padding: list[int]
    pool_kernel: list[int]
    pool_stride: list[int]
    units: list[int]


class ConvNet(nn.Module):
    """`features` holds the layers before the first FC, `neck` the hidden ones, `head` the last FC."""

    def __init__(self, features: nn.Sequential, neck: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.neck = neck
        self.head = head
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.neck(self.features(x)))
        return logits


@architecture(
    "convnet",
    family="ConvNet",
    paper=Paper("CS231n: Convolutional Neural Networks for Visual Recognition", 2015, "https://cs231n.github.io"),
    layout=Layout(head="head", trunk=("features.*", "neck")),
    input_size=InputSize(
        32,
        minimum=1,
        fixed=True,
        reason="the first full connection is made for the map before it; give input_size to build another",
        parameter="input_size",
    ),
    parameters={
        "pattern": f"the layers, default {DEFAULT_PATTERN}",
        "filters": "of each CONV, one number or a list; default 32, doubled after every POOL up to 512",
        "kernel": "of each CONV, default 3",
        "stride": "of each CONV, default 1",
        "padding": "of each CONV, default (kernel - 1) / 2 rounded down",
        "pool_kernel": "of each POOL (the largest value of the window), default 2",
        "pool_stride": "of each POOL, default its kernel",
        "units": "of each FC but the last, default 256",
        "input_size": "height and width of the images, default 32",
    },
)
def convnet(
    num_classes: int,
    channels: int,
    pattern: str = DEFAULT_PATTERN,
    filters: PerLayer | None = None,
    kernel: PerLayer = 3,
    stride: PerLayer = 1,
    padding: PerLayer | None = None,
    pool_kernel: PerLayer = 2,
    pool_stride: PerLayer | None = None,
    units: PerLayer = 256,
    input_size: int = 32,
) -> ConvNet:
    """Raises InvalidArchitecture, with place and numbers, where the pattern does not parse or does not fit."""
    if not isinstance(pattern, str):
        raise InvalidArchitecture(f"convnet: pattern is {pattern!r}, expected text such as {DEFAULT_PATTERN!r}")
    steps = parse(pattern)
    counts = {name: sum(step.name == name for step in steps) for name in ("CONV", "POOL", "FC")}
    kernels = _per_layer("kernel", kernel, counts["CONV"], "CONV")
    pool_kernels = _per_layer("pool_kernel", pool_kernel, counts["POOL"], "POOL")
    sizes = Sizes(
        filters=_default_filters(steps)
        if filters is None
        else _per_layer("filters", filters, counts["CONV"], "CONV"),
        kernel=kernels,
        stride=_per_layer("stride", stride, counts["CONV"], "CONV"),
        padding=[(k - 1) // 2 for k in kernels]
        if padding is None
        else _per_layer("padding", padding, counts["CONV"], "CONV", least=0),
        pool_kernel=pool_kernels,
        pool_stride=pool_kernels
        if pool_stride is None
        else _per_layer("pool_stride", pool_stride, counts["POOL"], "POOL"),
        units=_per_layer("units", units, counts["FC"] - 1, "hidden FC"),
    )
    (input_size,) = _per_layer("input_size", input_size, 1, "INPUT")
    values = _check_fit(pattern, steps, sizes, input_size, channels, num_classes)
    return _network(steps, sizes, channels, values, num_classes)


def _per_layer(name: str, given: PerLayer, count: int, kind: str, least: int = 1) -> list[int]:
    values: object = [given] * count if isinstance(given, int) else given
    if not isinstance(values, list | tuple):
        raise InvalidArchitecture(f"convnet: {name} is {given!r}, expected a whole number or a list of them")
    if len(values) != count:
        raise InvalidArchitecture(
            f"convnet: {name} has {len(values)} values for {count} {kind} layers; give one number or {count}"
        )
    wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, int) or not least <= v <= MAX_VALUE]
    if wrong:
        raise InvalidArchitecture(
            f"convnet: {name} holds {wrong[0]!r}, expected whole numbers {least} to {MAX_VALUE}"
        )
    return list(values)


def _default_filters(steps: list[Step]) -> list[int]:
    filters: list[int] = []
    width = 32
    for step in steps:
        if step.name == "POOL" and filters:
            width = min(width * 2, 512)
        elif step.name == "CONV":
            filters.append(width)
    return filters


def _check_fit(pattern: str, steps: list[Step], sizes: Sizes, size: int, channels: int, num_classes: int) -> int:
    """The number of values before the first FC. Raises where a window does not tile its map or all is too big."""
    parameters, width = 0, channels
    for step, kernel, stride, padding in _windows(steps, sizes):
        size = _output_size(pattern, step, size, kernel, stride, padding)
        if step.name == "CONV":
            filters = sizes.filters[step.number - 1]
            parameters += (kernel * kernel * width + 1) * filters
            width = filters
    values = inputs = size * size * width
    for outputs in (*sizes.units, num_classes):
        parameters += (inputs + 1) * outputs
        inputs = outputs
    if parameters > MAX_PARAMETERS:
        raise InvalidArchitecture(
            f"convnet: this pattern and these sizes make {parameters:,} parameters, at most {MAX_PARAMETERS:,} "
            f"are built; the first FC alone sees {values:,} values, so pool more or use fewer filters and units"
        )
    return values


def _windows(steps: list[Step], sizes: Sizes) -> Iterator[tuple[Step, int, int, int]]:
    """(step, kernel, stride, padding) of every CONV and POOL."""
    for step in steps:
        i = step.number - 1
        if step.name == "CONV":
            yield step, sizes.kernel[i], sizes.stride[i], sizes.padding[i]
        elif step.name == "POOL":
            yield step, sizes.pool_kernel[i], sizes.pool_stride[i], 0


def _output_size(pattern: str, step: Step, size: int, kernel: int, stride: int, padding: int) -> int:
    span = size - kernel + 2 * padding
    numbers = f"({size} - {kernel} + 2*{padding})/{stride} + 1 = {span / stride + 1:.2f}"
    where = f"{step} does not fit the {size}x{size} map before it: {FORMULA} = {numbers}"
    if span < 0:
        raise fault(pattern, step.position, f"{where}; the window is larger than the padded map")
    if span % stride:
        raise fault(pattern, step.position, f"{where}, which is no whole number")
    return span // stride + 1


def _network(steps: list[Step], sizes: Sizes, channels: int, values: int, num_classes: int) -> ConvNet:
    features, neck = nn.Sequential(), nn.Sequential(nn.Flatten())
    width, inputs, into = channels, values, features
    for step, kernel, stride, padding in _with_windows(steps, sizes):
        name = f"{step.name.lower()}{step.number}"
        if step.name == "CONV":
            filters = sizes.filters[step.number - 1]
            features.add_module(name, nn.Conv2d(width, filters, kernel, stride, padding))
            width = filters
        elif step.name == "POOL":
            features.add_module(name, nn.MaxPool2d(kernel, stride))
        elif step.name == "RELU":
            into.add_module(name, nn.ReLU(inplace=True))
        elif step.name == "FC" and step.number <= len(sizes.units):
            into = neck
            units = sizes.units[step.number - 1]
            neck.add_module(name, nn.Linear(inputs, units))
            inputs = units
    return ConvNet(features, neck, nn.Linear(inputs, num_classes))


def _with_windows(steps: list[Step], sizes: Sizes) -> Iterator[tuple[Step, int, int, int]]:
    windows = {(step.name, step.number): rest for step, *rest in _windows(steps, sizes)}
    for step in steps:
        kernel, stride, padding = windows.get((step.name, step.number), (0, 0, 0))
        yield step, kernel, stride, padding
