"""Channels of one activation brought to one range, so that 8 bits are as fine for the small ones as for the large.

Cross-layer equalisation (Nagel et al. 2019): a channel is divided by a number where it is made and multiplied by
it where it is read. In float32 that changes nothing on the images that calibrated; a channel that later exceeds
what was seen of it is cut, as 8 bits cut it in any case.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.variants.ranges import LEVELS, Seen

# How far a channel may exceed what was seen of it before it is cut.
MARGIN = 1.2
# The least that a channel may be taken to be, of the largest: one that was never active may yet be.
FLOOR = 1 / 64
SHARES = np.linspace(0, 1, 11)
WEIGHT_LEVELS = 127


@dataclass(frozen=True)
class Link:
    """From one convolution to those that read it, over at most a Relu or Clip."""

    maker: onnx.NodeProto
    readers: tuple[onnx.NodeProto, ...]
    activation: str


def equalise(model: onnx.ModelProto, seen: dict[str, Seen]) -> int:
    """Change weights and biases in place, and return in how many links; what was seen holds no more then."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    links = [link for link in _links(model, constants) if link.activation in seen]
    for link in links:
        weights = [numpy_helper.to_array(constants[reader.input[1]]) for reader in link.readers]
        channels = [_by_channel(reader, weight) for reader, weight in zip(link.readers, weights, strict=True)]
        scale = _scale(seen[link.activation], channels)
        _replace(model, constants, link.maker, 1, _rows(constants, link.maker, 1) / scale[:, None, None, None])
        if len(link.maker.input) > 2:
            _replace(model, constants, link.maker, 2, _rows(constants, link.maker, 2) / scale)
        for reader, weight in zip(link.readers, weights, strict=True):
            _replace(model, constants, reader, 1, weight * _as_weight(reader, scale))
    return len(links)


def _scale(seen: Seen, weights: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """By which each channel is divided, at most 1: the share of its range that leaves the least noise behind."""
    largest = np.maximum(np.abs(seen.low), np.abs(seen.high)).astype(np.float64)
    whole = largest.max()
    if whole <= 0:
        return np.ones(len(largest))
    room = np.clip(largest * MARGIN / whole, FLOOR, 1)
    return min((room**share for share in SHARES), key=lambda scale: _noise(scale, whole, seen.square, weights))


def _noise(
    scale: NDArray[np.float64],
    whole: float,
    square: NDArray[np.float64],
    weights: list[NDArray[np.float64]],
) -> float:
    """Of rounded activations and of rounded weights, of the power that the readers give; `weights` are
    `[outputs, channels, taps]`, with zeros where an output does not read a channel."""
    step = whole / LEVELS
    noise = 0.0
    for weight in weights:
        scaled = weight * scale[None, :, None]
        steps = np.abs(scaled).max(axis=(1, 2)) / WEIGHT_LEVELS
        reads = (weight != 0).sum(axis=2)
        of_activations = (scaled**2).sum(axis=(1, 2)) * step**2
        of_weights = (reads * (square / scale**2)[None, :]).sum(axis=1) * steps**2
        power = ((weight**2).sum(axis=2) * square[None, :]).sum(axis=1)
        noise += float(((of_activations + of_weights) / np.maximum(power, 1e-12)).mean())
    return noise


def _links(model: onnx.ModelProto, constants: dict[str, onnx.TensorProto]) -> list[Link]:
    outputs = {value.name for value in model.graph.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if not _is_constant_conv(node, constants):
            continue
        activation = node.output[0]
        after = readers.get(activation, [])
        if len(after) == 1 and activation not in outputs and _cuts_at_zero(after[0], constants):
            activation = after[0].output[0]
            after = readers.get(activation, [])
        if after and activation not in outputs and all(_reads(n, activation, constants) for n in after):
            found.append(Link(node, tuple(after), activation))
    return found


def _is_constant_conv(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or node.input[1] not in constants or len(constants[node.input[1]].dims) != 4:
        return False
    return len(node.input) < 3 or node.input[2] in constants


def _reads(node: onnx.NodeProto, activation: str, constants: dict[str, onnx.TensorProto]) -> bool:
    if not _is_constant_conv(node, constants) or node.input[0] != activation:
        return False
    outputs, inputs = constants[node.input[1]].dims[:2]
    groups = _groups(node)
    return groups == 1 or (groups == outputs and inputs == 1)


def _cuts_at_zero(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip" or len(node.input) < 2 or node.input[1] not in constants:
        return False
    return float(numpy_helper.to_array(constants[node.input[1]])) == 0


def _groups(node: onnx.NodeProto) -> int:
    return next((int(helper.get_attribute_value(a)) for a in node.attribute if a.name == "group"), 1)


def _by_channel(node: onnx.NodeProto, weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """`[outputs, channels, taps]`; of a depthwise convolution `[1, channels, taps]` each for itself."""
    flat = weight.reshape(weight.shape[0], weight.shape[1], -1).astype(np.float64)
    if _groups(node) == 1:
        return flat
    spread = np.zeros((len(flat), len(flat), flat.shape[2]))
    spread[np.arange(len(flat)), np.arange(len(flat))] = flat[:, 0]
    return spread


def _as_weight(node: onnx.NodeProto, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return scale[None, :, None, None] if _groups(node) == 1 else scale[:, None, None, None]


def _rows(constants: dict[str, onnx.TensorProto], node: onnx.NodeProto, at: int) -> NDArray[np.float64]:
    return numpy_helper.to_array(constants[node.input[at]]).astype(np.float64)


def _replace(
    model: onnx.ModelProto,
    constants: dict[str, onnx.TensorProto],
    node: onnx.NodeProto,
    at: int,
    values: NDArray[np.floating],
) -> None:
    """By a constant of the node's own: another node may read the old one."""
    name = f"{node.name}.{'weight' if at == 1 else 'bias'}"
    tensor = numpy_helper.from_array(values.astype(np.float32), name)
    if node.input[at] == name:
        constants[name].CopyFrom(tensor)
        return
    model.graph.initializer.append(tensor)
    constants[name] = model.graph.initializer[-1]
    node.input[at] = name
