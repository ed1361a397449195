"""A network taken apart: backbone and head, stages, first convolution. Knows no weights."""

import copy
import dataclasses
import itertools
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMerging, PatchMergingV2

from models.errors import InvalidArchitecture
from models.zoo.architecture import Grouping, Layout
from models.zoo.registry import built


class BackboneAndHead(NamedTuple):
    """`head(backbone(x))` is what the network answers in evaluation mode; all three share their parameters."""

    backbone: nn.Module
    head: nn.Module


def split_network(network: nn.Module) -> BackboneAndHead:
    """The network as features and classifier, sharing its modules: training the head trains the network.

    The features are [batch, n] and the head is one `nn.Linear`, but for SqueezeNet and NiN, which classify by a
    convolution and average afterwards: there they are [batch, n, height, width].
    Raises InvalidArchitecture for a network that the registry did not build, or that has no single head.
    """
    architecture = built(network).architecture
    layout = architecture.layout
    if not is_separable(network):
        raise InvalidArchitecture(
            f"{architecture.name} does not classify by one head, so features and head cannot be taken apart: "
            "train it whole"
        )
    head = network.get_submodule(layout.head)
    if layout.backbone:
        return BackboneAndHead(network.get_submodule(layout.backbone), nn.Sequential(head, nn.Flatten(1)))
    backbone = _without(network, layout.head.split("."))
    if isinstance(head, nn.Conv2d):
        # Some of timm's classify by a 1x1 convolution on the pooled map, and flatten what comes out of it.
        return BackboneAndHead(
            backbone, nn.Sequential(nn.Unflatten(1, (head.in_channels, 1, 1)), head, nn.Flatten(1))
        )
    return BackboneAndHead(backbone, head)


def is_separable(network: nn.Module) -> bool:
    """Whether `split_network` can take it apart. Raises InvalidArchitecture for one the registry did not build."""
    layout = built(network).architecture.layout
    return bool(layout.head) and layout.separable


def classifiers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers with one output per class, by dotted name: the head's and the auxiliary heads'."""
    layout = built(network).architecture.layout
    present = {name for name, _ in network.named_modules()}
    return {
        found: layer
        for path in (layout.head, *layout.auxiliary)
        if path and path in present
        for found, layer in [_last_weighted(network, path)]
    }


def replace_head(network: nn.Module, num_classes: int) -> nn.Module:
    """Gives the network new, untrained classifiers for `num_classes` classes, in place; returns the network."""
    for path, layer in classifiers(network).items():
        parent, _, child = path.rpartition(".")
        setattr(network.get_submodule(parent), child, _resized(layer, num_classes))
    return network


def stages(network: nn.Module) -> list[nn.ModuleList]:
    """The backbone's stages from the image to the head, each the modules that work at one resolution.

    For partial fine-tuning: unfreeze the last few. Modules without parameters are left out, and so is what a
    transformer adds to its first stage: class token and positions.
    """
    layout = built(network).architecture.layout
    if layout.grouping == "timm":
        from models.zoo.timm_models import timm_stages

        if found := timm_stages(network):
            return found
        layout = dataclasses.replace(layout, trunk=("*",), head=layout.head.partition(".")[0], grouping="stride")
    groups = _grouped(_blocks(network, layout), layout.grouping)
    return [
        nn.ModuleList(kept)
        for group in groups
        if (kept := [m for m in group if any(True for _ in m.parameters())])
    ]


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """The dotted name and the layer that reads the image's channels."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    raise InvalidArchitecture(f"{type(network).__name__} has no convolution to read another number of channels")


def replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Makes the network read `channels` channels, in place; the new layer is untrained."""
    name, old = first_convolution(network)
    if old.in_channels == channels:
        return
    if old.groups != 1:
        raise InvalidArchitecture(f"{name} is grouped by {old.groups}; it cannot read {channels} channels")
    new = nn.Conv2d(
        channels,
        old.out_channels,
        _pair(old.kernel_size),
        _pair(old.stride),
        old.padding if isinstance(old.padding, str) else _pair(old.padding),
        _pair(old.dilation),
        bias=old.bias is not None,
    )
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _without(module: nn.Module, path: list[str]) -> nn.Module:
    """A copy that shares every parameter and submodule; the one at `path` passes its input through."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    child, *rest = path
    old = module.get_submodule(child)
    shell._modules[child] = _without(old, rest) if rest else nn.Identity()
    return shell


def _last_weighted(network: nn.Module, path: str) -> tuple[str, nn.Module]:
    for name, module in reversed(list(network.get_submodule(path).named_modules())):
        if isinstance(module, nn.Linear | nn.Conv2d):
            return (f"{path}.{name}" if name else path), module
    raise InvalidArchitecture(f"{path} holds no layer with one output per class")


def _resized(layer: nn.Module, outputs: int) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, outputs, bias=layer.bias is not None)
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
        return nn.Conv2d(layer.in_channels, outputs, 1, bias=layer.bias is not None)
    raise InvalidArchitecture(f"a classifier of kind {type(layer).__name__} cannot be given {outputs} classes")


def _blocks(network: nn.Module, layout: Layout) -> list[nn.Module]:
    """The modules that `layout.trunk` names, in order, without the classifiers."""
    paths: list[str] = []
    for entry in layout.trunk:
        parent, _, child = entry.rpartition(".")
        if child == "*":
            prefix = f"{parent}." if parent else ""
            paths.extend(prefix + name for name, _ in network.get_submodule(parent).named_children())
        else:
            paths.append(entry)
    left_out = {layout.head, *layout.auxiliary}
    return [network.get_submodule(path) for path in paths if path not in left_out]


def _grouped(blocks: list[nn.Module], grouping: Grouping) -> list[list[nn.Module]]:
    if grouping == "quarters":
        edges = [len(blocks) * quarter // 4 for quarter in range(5)]
        return [blocks[start:end] for start, end in itertools.pairwise(edges)]
    groups: list[list[nn.Module]] = [[]]
    for block in blocks:
        if _lowers_resolution(block) and groups[-1]:
            groups.append([])
        groups[-1].append(block)
    return groups


def _lowers_resolution(block: nn.Module) -> bool:
    return any(
        (isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and max(_both(m.stride)) > 1)
        or isinstance(m, PatchMerging | PatchMergingV2)
        for m in block.modules()
    )


def _both(stride: int | tuple[int, ...]) -> tuple[int, ...]:
    return (stride, stride) if isinstance(stride, int) else stride


def logits_of(output: Tensor | tuple[Tensor | None, ...]) -> Tensor:
    """The logits of an answer that may also hold auxiliary ones (GoogLeNet's and Inception's in training)."""
    if isinstance(output, Tensor):
        return output
    first = output[0]
    if first is None:
        raise InvalidArchitecture("the network answered without logits")
    return first
