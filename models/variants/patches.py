"""What the convolutions of a network read on calibration images: the mean and covariance of their patches.

They say which errors of a rounded weight matter, for `models.variants.rounding`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper
from threadpoolctl import threadpool_limits

from models.variants.ranges import Feed

# Patches of one image: neighbours tell little new.
SAMPLES = 64
# A covariance of more numbers than this squared takes seconds to invert; such layers feel rounding the least.
LARGEST = 1200


@dataclass(frozen=True)
class Convolution:
    """A Conv or Gemm with constant weights. `size` is what one output reads: channels of a group x kernel."""

    node: str
    input: str
    weight: str
    groups: int
    size: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]


@dataclass
class Moments:
    """Of the patches that a convolution reads: sums, float64 `[groups, size]` and `[groups, size, size]`."""

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.total / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        mean = self.mean
        found: NDArray[np.float64] = self.products / self.count - mean[:, :, None] * mean[:, None, :]
        return found


def convolutions(model: onnx.ModelProto) -> list[Convolution]:
    """Those that `LARGEST` allows; convolutions of other than two dimensions are left out."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or len(weights[node.input[1]]) != 4:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
            continue
        _, channels, height, width = weights[node.input[1]]
        groups, size = attributes.get("group", 1), channels * height * width
        if size > LARGEST or groups * size * size > LARGEST * LARGEST:
            continue
        found.append(
            Convolution(
                node.name, node.input[0], node.input[1], groups, size, (height, width),
                _pair(attributes.get("strides")), tuple(attributes.get("pads", [0, 0, 0, 0])),
                _pair(attributes.get("dilations")),
            )
        )  # fmt: skip
    return found


def read_patches(
    model: onnx.ModelProto,
    wanted: Iterable[Convolution],
    feeds: Callable[[], Iterable[Feed]],
) -> dict[str, Moments]:
    """Moments by the convolution's node, from at most `SAMPLES` patches of each image, drawn by a fixed seed."""
    layers = list(wanted)
    session, names = _exposing(model, {layer.input for layer in layers})
    draw = np.random.default_rng(0)
    found: dict[str, Moments] = {}
    for feed in feeds():
        values = {**feed, **dict(zip(names, session.run(names, dict(feed)), strict=True))}
        # Products this small take a hundred times as long where two threads wait for each other.
        with threadpool_limits(1):
            for layer in layers:
                _extend(found, layer, _patches(layer, values[layer.input], draw))
    return found


def _patches(layer: Convolution, value: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """`[groups, samples, size]` of the first image; past the border there are zeros."""
    top, left, bottom, right = layer.pads
    image = np.pad(value[0], ((0, 0), (top, bottom), (left, right)))
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel, layer.dilations, strict=True)]
    rows, columns = (
        max((side - span) // stride + 1, 1)
        for side, span, stride in zip(image.shape[1:], spans, layer.strides, strict=True)
    )
    chosen = draw.choice(rows * columns, min(SAMPLES, rows * columns), replace=False)
    y, x = (chosen // columns) * layer.strides[0], (chosen % columns) * layer.strides[1]
    down, across = (np.arange(k) * d for k, d in zip(layer.kernel, layer.dilations, strict=True))
    # [channels, samples, height, width]
    taken = image[:, y[:, None, None] + down[None, :, None], x[:, None, None] + across[None, None, :]]
    grouped = taken.reshape(layer.groups, -1, len(chosen), *layer.kernel)
    return grouped.transpose(0, 2, 1, 3, 4).reshape(layer.groups, len(chosen), layer.size)


def _extend(found: dict[str, Moments], layer: Convolution, patches: NDArray[np.float32]) -> None:
    products = patches.transpose(0, 2, 1) @ patches
    known = found.get(layer.node)
    if known is None:
        found[layer.node] = Moments(
            patches.shape[1], patches.sum(axis=1, dtype=np.float64), products.astype(np.float64)
        )
        return
    known.count += patches.shape[1]
    known.total += patches.sum(axis=1, dtype=np.float64)
    known.products += products


def _exposing(model: onnx.ModelProto, names: set[str]) -> tuple[Any, list[str]]:
    """A session that gives these activations; inputs of the graph are among what it is fed."""
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    inner = sorted(names & known.keys())
    exposed.graph.output.extend(known[name] for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, inner


def _pair(values: Any) -> tuple[int, int]:
    return (1, 1) if values is None else (int(values[0]), int(values[1]))
