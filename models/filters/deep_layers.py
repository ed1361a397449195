"""Which layers of a graph are looked into: the last convolution of each resolution, from the image to the head."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from models.filters.graph_windows import WHOLE, Shape, shapes_of, trace_windows
from models.filters.window import Pair, Windows

MOST_LAYERS, FEWEST_LAYERS = 5, 3
# Of an exported network's own names; an uploaded graph has its own.
PREFIX, SUFFIX = "network.", ".weight"


@dataclass(frozen=True)
class DeepLayer:
    """A convolution of a graph. `tensor` is its output, float32 `[batch, channels, *map]`, before its activation.

    A batch normalisation is part of it. `name` is that of the network's module.
    """

    name: str
    tensor: str
    kernel: Pair
    channels: int
    map: Pair
    windows: Windows


@dataclass(frozen=True)
class LayerChoice:
    """`left_out` says in a sentence which convolutions could not be chosen, and why; empty where all could."""

    layers: tuple[DeepLayer, ...]
    left_out: str


def choose_layers(model: onnx.ModelProto) -> LayerChoice:
    """At most five, in the order in which they run; fewer where the network has fewer resolutions.

    Depthwise convolutions are passed over: what their filters see is one channel of the layer before.
    """
    graph = model.graph
    traced = trace_windows(model)
    shapes = shapes_of(graph)
    weights = shapes | {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    candidates: list[DeepLayer] = []
    lost = 0
    for node in graph.node:
        if node.op_type != "Conv" or node.output[0] not in traced:
            continue
        windows, shape = traced[node.output[0]], shapes.get(node.output[0], [])
        channels, depth, *kernel = weight = _sizes(weights.get(node.input[1], []))
        if windows is WHOLE or depth == 1 or is_luminance(weight):
            continue
        sizes = _sizes(shape)[1:]
        if not isinstance(windows, Windows) or len(sizes) != 2 or len(kernel) != 2:
            lost += 1
        elif sizes != [1, 1]:
            name = module_name(node.input[1])
            candidates.append(DeepLayer(name, node.output[0], _pair(kernel), channels, _pair(sizes), windows))
    left_out = (
        f"Nothing is shown of {lost} of its convolutions: behind attention or an enlarged map no window of the "
        "image belongs to a value."
        if lost
        else ""
    )
    return LayerChoice(tuple(_spread(candidates)), left_out)


def module_name(weight: str) -> str:
    """The module of a network whose weight an initializer is: `features.0.conv`."""
    return weight.removeprefix(PREFIX).removesuffix(SUFFIX)


def is_luminance(weight: Sequence[int]) -> bool:
    """Whether weights of that shape make the image grey, which is preparation and no layer."""
    return list(weight) == [1, 3, 1, 1]


def _sizes(shape: Sequence[int | str]) -> list[int]:
    """Those that are fixed; of a tensor without a shape two zeros, for a convolution has at least as many."""
    return [size for size in shape if isinstance(size, int)] or [0, 0]


def _pair(sizes: list[int]) -> Pair:
    return sizes[0], sizes[1]


def _spread(candidates: list[DeepLayer]) -> list[DeepLayer]:
    of_jump = {layer.windows.jump: layer for layer in candidates}
    last = [layer for layer in candidates if of_jump[layer.windows.jump] is layer]
    if len(last) >= min(FEWEST_LAYERS, len(candidates)):
        return [last[i] for i in _evenly(len(last), MOST_LAYERS)]
    return [candidates[i] for i in _evenly(len(candidates), FEWEST_LAYERS)]


def _evenly(count: int, most: int) -> list[int]:
    found: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return found


def multiply_adds(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> int:
    """Of all convolutions and matrix products with weights, for one image; `shapes` are those of its tensors."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type in ("Conv", "MatMul", "Gemm") else None
        if weight is not None:
            values = math.prod(size for size in shapes.get(node.output[0], []) if isinstance(size, int))
            total += values * (math.prod(weight[1:]) if node.op_type == "Conv" else weight[0])
    return total
