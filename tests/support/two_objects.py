"""Pictures of objects with a texture each, one alone or two side by side, and networks that know them.

Real weights exist for few networks, and an untrained one sees nothing. Here the convolutions stay as they begin,
and what is behind the last feature map is taught, which takes seconds.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.export import to_onnx
from models.normalise import Normalise
from models.spec import Preprocessing
from models.zoo.registry import build, get

LABELS = ("rows", "columns", "checks", "dots")
COLOURS = np.array([(220, 60, 40), (50, 190, 70), (60, 80, 230), (220, 200, 50)])
# Of each object on each side.
TAUGHT_PICTURES = 3
AT_ONCE = 4
STEPS, RATE = 40, 1e-3
# Above that a layer takes as long to teach as all the rest.
MOST_WEIGHTS = 20_000_000

Pixels = NDArray[np.uint8]


def picture(left: int | None, right: int | None, size: int, random: np.random.Generator) -> Pixels:
    """uint8 `[size, size, 3]`: the objects of these numbers on grey; None for none."""
    image = 128 + random.normal(0, 12, (size, size, 3))
    half, margin = size // 2, max(1, size // 28)
    for start, number in ((0, left), (half, right)):
        if number is not None:
            height, width = size - 6 * margin, half - 2 * margin
            noise = random.normal(0, 8, (height, width, 3))
            image[3 * margin : 3 * margin + height, start + margin : start + margin + width] = (
                _texture(number, height, width, random) + noise
            )
    return np.clip(image, 0, 255).astype(np.uint8)


def pairs() -> Iterator[tuple[int, int]]:
    """All objects beside all others."""
    return itertools.permutations(range(len(LABELS)), 2)


def view_of(name: str) -> Preprocessing:
    size = get(name).input.size
    return Preprocessing(size, size, size)


def write_taught(name: str, model: Path) -> dict[str, list[int]]:
    """Write a network of the zoo that knows the objects as a graph; the sizes of its outputs."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    view = view_of(name)
    network = build(name, len(LABELS)).eval()
    shown = [
        (picture(*((number, None) if side == 0 else (None, number)), view.height, random), number)
        for number in range(len(LABELS))
        for side in (0, 1)
        for _ in range(TAUGHT_PICTURES)
    ]
    given = Normalise(view)(torch.from_numpy(np.stack([image for image, _ in shown])))
    _begin(network, given)
    _teach(network, given, torch.tensor([number for _, number in shown]))
    return to_onnx(network, model, preprocessing=view, labels=LABELS)


def _texture(number: int, height: int, width: int, random: np.random.Generator) -> NDArray[np.float64]:
    y, x = np.mgrid[:height, :width].astype(float)
    period = height / (7 + random.random())
    y, x = y + random.random() * period, x + random.random() * period
    is_bright = (
        y % period < period / 2,
        x % period < period / 2,
        (x // (period / 2) + y // (period / 2)) % 2 == 0,
        (x % period - period / 2) ** 2 + (y % period - period / 2) ** 2 < (0.35 * period) ** 2,
    )[number]
    colour = COLOURS[number] * (0.85 + 0.3 * random.random())
    return np.where(is_bright[..., None], colour, 0.25 * colour)


def _begin(network: nn.Module, given: Tensor) -> None:
    """Weights by which every channel has mean 0 and variance 1 on the images, as trained networks about have.

    As they are made, those of a deep network give nearly the same for every image.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    normalising = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in normalising:
        layer.momentum = None
        layer.reset_running_stats()
        layer.train()
    if not normalising:
        hooks = [layer.register_forward_hook(_normalise) for layer in convolutions]
    with torch.no_grad():
        network(given[::2])
    for hook in hooks:
        hook.remove()
    network.eval()


def _normalise(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    mean, spread = output.mean((0, 2, 3)), output.std((0, 2, 3)) + 1e-6
    layer.weight /= spread[:, None, None, None]
    layer.bias.copy_((layer.bias - mean) / spread)
    return (output - mean[:, None, None]) / spread[:, None, None]


def _teach(network: nn.Module, given: Tensor, classes: Tensor) -> None:
    """What is behind the convolutions, but for a layer that would take too long."""
    leaves = [
        module
        for name, module in network.named_modules()
        if not list(module.children()) and not name.lower().startswith("aux")
    ]
    weighted = [module for module in leaves if isinstance(module, nn.Linear)]
    head = weighted[-1] if weighted else [module for module in leaves if isinstance(module, nn.Conv2d)][-1]
    taught = [layer for layer in weighted or [head] if sum(p.numel() for p in layer.parameters()) <= MOST_WEIGHTS]
    behind = nn.Sequential(*leaves[leaves.index(taught[0]) :])
    seen: list[Tensor] = []
    hook = taught[0].register_forward_pre_hook(lambda _, read: seen.append(read[0].detach()))
    with torch.no_grad():
        for batch in given.split(AT_ONCE):
            network(batch)
    hook.remove()
    read = torch.cat(seen)
    with torch.no_grad():
        taught[0].weight /= read.std()
        head.weight.zero_()
        if isinstance(head, nn.Conv2d):
            # Logits that pass a ReLU have to begin above zero.
            head.weight.normal_(0, 0.01 / float(read.std()))
            nn.init.constant_(head.bias if head.bias is not None else torch.zeros(1), 0.1)
    parameters = [parameter for layer in taught for parameter in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(behind(read), classes).backward()
        optimizer.step()
