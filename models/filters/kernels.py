"""The kernels of a network's first convolution, which read the image's own pixels and can be seen as pictures."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.filters.deep_layers import is_luminance, module_name
from models.filters.tiles import in_rows
from models.spec import INPUT

# Values, of all kernels that are shown together: they hardly compress.
MOST_VALUES = 150_000
SIDE, LARGEST = 36, 64
LONGEST_NAME = 120
# A kernel whose largest weight is no more than this share of the largest of all does nothing.
DEAD = 1e-6
GREY, COLOUR = 1, 3


@dataclass(frozen=True)
class Kernels:
    """`weights` are float32 `[kernels, 1 or 3, height, width]`, as the layer `name` has them."""

    name: str
    weights: NDArray[np.float32]
    stride: tuple[int, int]

    @property
    def shown(self) -> int:
        """How many are in the picture: the first ones."""
        return int(min(len(self.weights), max(1, MOST_VALUES // self.weights[0].size)))

    @property
    def largest(self) -> NDArray[np.float32]:
        """The largest weight of each, without its sign."""
        found: NDArray[np.float32] = np.abs(self.weights).max(axis=(1, 2, 3))
        return found


@dataclass(frozen=True)
class NoKernels:
    reason: str


def usable(name: str, weights: NDArray[np.float32], stride: tuple[int, int]) -> Kernels | NoKernels:
    """Kernels that can be seen; else why not."""
    count, channels, height, width = weights.shape
    name = ascii(name)[1:-1][:LONGEST_NAME]
    if channels not in (GREY, COLOUR):
        return NoKernels(
            f"Its first convolution, {name}, reads {channels} channels: pixels are put together before it, so "
            "that its kernels have no colours"
        )
    if not count or not 0 < max(height, width) <= LARGEST:
        return NoKernels(
            f"The kernels of its first convolution, {name}, are {height}x{width}, which is no picture"
        )
    if not np.isfinite(weights).all():
        return NoKernels(f"The weights of its first convolution, {name}, are not all numbers")
    return Kernels(name, weights, stride)


def kernels_of_graph(model: onnx.ModelProto) -> Kernels | NoKernels:
    """Of the first convolution of any graph that reads `image`."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    changing = {INPUT}
    for node in graph.node:
        if node.op_type == "Shape" or not changing.intersection(node.input):
            continue
        changing.update(node.output)
        weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if node.op_type != "Conv" or (weight is not None and is_luminance(weight.dims)):
            continue
        if weight is None or len(weight.dims) != 4:
            return NoKernels(
                "The weights of its first convolution do not stand in the graph as numbers: it computes them"
            )
        strides = next((tuple(a.ints) for a in node.attribute if a.name == "strides"), (1, 1))
        values = numpy_helper.to_array(weight).astype(np.float32)
        return usable(module_name(node.input[1]), values, (int(strides[0]), int(strides[-1])))
    return NoKernels("It has no convolution that reads the image")


def kernels_picture(kernels: Kernels) -> NDArray[np.uint8]:
    """The kernels side by side, enlarged without smoothing, uint8 RGBA; between them it is transparent.

    Each on its own scale, for a batch normalisation in them makes some a hundred times as large as others: in each
    channel weight 0 is the middle grey, and the largest weight of the kernel white or black; a dead kernel is grey
    all over. Of one channel the picture is grey.
    """
    found = kernels.weights[: kernels.shown].transpose(0, 2, 3, 1)
    alive = kernels.largest > DEAD * kernels.largest.max()
    scales = np.where(alive, kernels.largest, np.inf)[: kernels.shown].reshape(-1, 1, 1, 1)
    levels = (127.5 + 127.5 * found / scales).round().astype(np.uint8)
    coloured = levels.repeat(COLOUR // levels.shape[3], axis=3)
    factor = max(1, SIDE // max(coloured.shape[1:3]))
    enlarged = coloured.repeat(factor, axis=1).repeat(factor, axis=2)
    opaque = np.full((*enlarged.shape[:3], 1), 255, np.uint8)
    return in_rows(np.concatenate([enlarged, opaque], axis=3), columns=_columns(*enlarged.shape[:3]), gap=2)


def _columns(count: int, height: int, width: int) -> int:
    """So many that the picture is about twice as wide as it is high, and no wider than a page."""
    wide = round((2 * count * (height + 2) / (width + 2)) ** 0.5)
    return max(1, min(count, int(wide), 760 // (width + 2)))
