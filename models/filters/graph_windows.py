"""Which window of the image each tensor of an ONNX graph looks through, followed node by node.

Beside size and jump, which `models.zoo.receptive_field` has of a torch network, the graph has the padding and so
the place of each window, and it is what the version computes. Attention, enlargement and what flattens a map end
the trace.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from models.filters.window import Windows
from models.graph_facts import shape_of
from models.spec import INPUT

ELEMENTWISE = frozenset({
    "Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Div", "Dropout", "Elu", "Equal",
    "Erf", "Exp", "Floor", "Gelu", "Greater", "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "Less",
    "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where",
})  # fmt: skip
SLIDING = frozenset({"Conv", "MaxPool", "AveragePool", "LpPool"})
GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
REDUCING = frozenset({
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSumExp",
})  # fmt: skip
RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
NORMS_OF_THE_MAP = frozenset({"InstanceNormalization", "GroupNormalization"})


class Whole:
    """Of a tensor with one value for all of the image, as a gate: it has no place."""


WHOLE: Final = Whole()
# None is not known. What does not change with the image's pixels is not traced.
Traced = Windows | Whole | None
Shape = list[int | str]


def trace_windows(model: onnx.ModelProto) -> dict[str, Traced]:
    """Of each tensor that changes with the pixels of the input `image`, `[batch, height, width, 3]`."""
    return _Trace(model.graph).followed()


def shapes_of(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Of the tensors that have one in the graph."""
    return {value.name: shape_of(value) for value in (*graph.input, *graph.value_info, *graph.output)}


class _Trace:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._nodes = graph.node
        self._shapes = shapes_of(graph)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._found: dict[str, Traced] = {INPUT: Windows(axes=(1, 2))}

    def followed(self) -> dict[str, Traced]:
        for node in self._nodes:
            given = [name for name in node.input if name in self._found]
            # How many images there are says nothing about them.
            if given and node.op_type != "Shape":
                after = self._after(node, given)
                self._found.update((name, after) for name in node.output if name)
        return self._found

    def _after(self, node: NodeProto, given: Sequence[str]) -> Traced:
        sources = [self._found[name] for name in given]
        if any(source is None for source in sources):
            return None
        if all(isinstance(source, Whole) for source in sources):
            return WHOLE
        joined = self._joined(given)
        if joined is None or (len(given) > 1 and node.op_type not in ELEMENTWISE | {"Concat"}):
            return None
        return self._through(node, given, joined)

    def _joined(self, given: Sequence[str]) -> Windows | None:
        """Of a map and a gate that is spread over it, the map's."""
        windows = {name: w for name in given if isinstance(w := self._found[name], Windows)}
        spread = {name for name, w in windows.items() if self._sizes(name, w) == (1, 1)}
        maps = [w for name, w in windows.items() if name not in spread] or list(windows.values())
        joined: Windows | None = maps[0]
        for other in maps[1:]:
            joined = joined.joined(other) if joined else None
        return joined and dataclasses.replace(joined, gated=joined.gated or len(maps) < len(set(given)))

    def _through(self, node: NodeProto, given: Sequence[str], windows: Windows) -> Traced:
        kind, attributes = node.op_type, {a.name: helper.get_attribute_value(a) for a in node.attribute}
        rank = len(self._shape(given[0]))
        if kind in ELEMENTWISE:
            return windows
        if kind in SLIDING:
            return self._slid(node, attributes, windows)
        if kind in GLOBAL:
            return WHOLE
        if kind in REDUCING:
            return self._reduced(node, attributes, windows, rank)
        if kind in RESHAPING:
            return self._reshaped(given[0], node.output[0], windows)
        if kind in NORMS_OF_THE_MAP:
            return dataclasses.replace(windows, gated=True)
        if kind == "LayerNormalization":
            over_map = max(windows.axes) >= attributes.get("axis", -1) % max(rank, 1)
            return dataclasses.replace(windows, gated=windows.gated or over_map)
        if kind == "Transpose":
            perm = list(attributes.get("perm", range(rank)[::-1]))
            return dataclasses.replace(windows, axes=(perm.index(windows.axes[0]), perm.index(windows.axes[1])))
        if kind == "MatMul":
            return windows if given[0] == node.input[0] and rank - 1 not in windows.axes else None
        if kind in ("Softmax", "LogSoftmax"):
            over_map = attributes.get("axis", -1) % max(rank, 1) in windows.axes
            return dataclasses.replace(windows, gated=windows.gated or over_map)
        if kind in ("Concat", "Split"):
            return windows if attributes.get("axis", 0) % max(rank, 1) not in windows.axes else None
        if kind == "Pad":
            return self._padded(node, attributes, windows, rank)
        if kind == "Slice":
            return self._sliced(node, windows, rank)
        if kind == "Gather":
            is_list = len(self._shape(node.output[0])) == rank
            return windows if is_list and attributes.get("axis", 0) % rank not in windows.axes else None
        return None

    def _slid(self, node: NodeProto, attributes: Mapping[str, Any], windows: Windows) -> Windows | None:
        kernel = attributes.get("kernel_shape")
        if kernel is None:
            kernel = self._shape(node.input[1])[2:]
        ways = len(kernel)
        strides, dilations = attributes.get("strides", [1] * ways), attributes.get("dilations", [1] * ways)
        pads = attributes.get("pads", [0] * 2 * ways)
        how = attributes.get("auto_pad", b"NOTSET")
        found = windows
        for way, axis in enumerate(windows.axes):
            i = axis - 2
            if not 0 <= i < ways:
                return None
            k, s, d = int(kernel[i]), int(strides[i]), int(dilations[i])
            before = self._same(node, axis, k, s, d, how) if how.startswith(b"SAME") else int(pads[i])
            if before is None:
                return None
            found = found.through(way, k, s, d, before)
        return found

    def _same(self, node: NodeProto, axis: int, kernel: int, stride: int, dilation: int, how: bytes) -> int | None:
        """The padding before the first value under SAME_UPPER and SAME_LOWER."""
        size = self._size(node.input[0], axis)
        if size is None:
            return None
        total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        return total // 2 if how == b"SAME_UPPER" else -(-total // 2)

    def _reduced(self, node: NodeProto, attributes: Mapping[str, Any], windows: Windows, rank: int) -> Traced:
        given = self._constant(node, 1)
        axes = attributes.get("axes", range(rank)) if given is None else given.tolist()
        reduced = {int(axis) % rank for axis in axes}
        if reduced >= set(windows.axes):
            return WHOLE
        if reduced & set(windows.axes):
            return None
        if attributes.get("keepdims", 1):
            return windows
        height, width = (axis - sum(other < axis for other in reduced) for axis in windows.axes)
        return dataclasses.replace(windows, axes=(height, width))

    def _reshaped(self, given: str, made: str, windows: Windows) -> Windows | None:
        """Height and width stay where another axis has their size and as many values behind it."""
        before, after = self._shape(given), self._shape(made)
        axes = []
        for axis in windows.axes:
            sought = (before[axis], _behind(before, axis)) if axis < len(before) else None
            fitting = [i for i, size in enumerate(after) if (size, _behind(after, i)) == sought]
            if sought is None or sought[1] is None or not fitting:
                return None
            # Of axes of size one beside each other any is as good; the last leaves room for the channels.
            axes.append(fitting[-1])
        return dataclasses.replace(windows, axes=(axes[0], axes[1]))

    def _padded(
        self, node: NodeProto, attributes: Mapping[str, Any], windows: Windows, rank: int
    ) -> Windows | None:
        given, named = self._constant(node, 1), self._constant(node, 3)
        pads = attributes.get("pads") if given is None else given.tolist()
        if pads is None:
            return None
        axes = list(range(rank)) if named is None else [int(axis) % rank for axis in named]
        before = dict(zip(axes, pads, strict=False))
        found = windows
        for way, axis in enumerate(windows.axes):
            found = found.through(way, 1, 1, 1, int(before.get(axis, 0)))
        return found

    def _sliced(self, node: NodeProto, windows: Windows, rank: int) -> Windows | None:
        starts, named, steps = (self._constant(node, place) for place in (1, 3, 4))
        if starts is None:
            return None
        axes = list(range(len(starts))) if named is None else [int(axis) % rank for axis in named]
        found = windows
        for i, axis in enumerate(axes):
            if axis not in windows.axes:
                continue
            size, step = self._size(node.input[0], axis), 1 if steps is None else int(steps[i])
            if size is None or step < 1:
                return None
            first = int(starts[i]) + (size if starts[i] < 0 else 0)
            found = found.through(windows.axes.index(axis), 1, step, 1, -min(max(first, 0), size))
        return found

    def _constant(self, node: NodeProto, place: int) -> NDArray[np.int64] | None:
        tensor = self._initializers.get(node.input[place]) if len(node.input) > place else None
        return None if tensor is None else numpy_helper.to_array(tensor).ravel()

    def _shape(self, tensor: str) -> Shape:
        """Empty where it is not known."""
        if tensor in self._initializers:
            return list(self._initializers[tensor].dims)
        return self._shapes.get(tensor, [])

    def _size(self, tensor: str, axis: int) -> int | None:
        shape = self._shape(tensor)
        size = shape[axis] if axis < len(shape) else None
        return size if isinstance(size, int) else None

    def _sizes(self, tensor: str, windows: Windows) -> tuple[int | None, int | None]:
        return self._size(tensor, windows.axes[0]), self._size(tensor, windows.axes[1])


def _behind(shape: Shape, axis: int) -> int | None:
    """How many values lie behind one place along the axis; None where that depends on the batch."""
    sizes = shape[axis + 1 :]
    return (
        math.prod(size for size in sizes if isinstance(size, int))
        if all(isinstance(s, int) for s in sizes)
        else None
    )
