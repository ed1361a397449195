"""The normalisation folded into the first convolution, so that a quantised network reads the pixels as they are.

A pixel is a quantised number already. Where it is turned into a float, normalised by quantised multiplications and
quantised again, that costs as much as the rest of a small network: docs/decisions/0024-variants-behind-a-gate.md.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.spec import INPUT

BATCH = "batch"
PIXELS = "pixels"
FOLDED = "normalisation"
WEIGHT, BIAS = "pixels.weight", "pixels.bias"
SCALE, ZERO_POINT = "pixels.scale", "pixels.zero_point"
TO_CHANNELS_FIRST = [0, 3, 1, 2]


@dataclass(frozen=True)
class Entry:
    """How the pixels enter a graph that is being quantised.

    With a `zero_point` the graph reads `pixels`, float32 `[batch, 3, height, width]`: each pixel minus that
    number, which is what 8 bits with this zero point and a scale of 1 mean. Without one it reads `image` as ever.
    """

    image: onnx.ValueInfoProto
    zero_point: int | None = None

    @property
    def name(self) -> str:
        return INPUT if self.zero_point is None else PIXELS

    def feed(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8] | NDArray[np.float32]]:
        if self.zero_point is None:
            return {INPUT: images}
        return {PIXELS: images.transpose(TO_CHANNELS_FIRST).astype(np.float32) - np.float32(self.zero_point)}


def fold_normalisation(model: onnx.ModelProto) -> Entry:
    """Change the graph, where it begins as all graphs of Fovea do, to read `pixels`; else leave it as it is.

    In the middle of an image the result is the same. At its border it is only nearly so: what is padded was zero
    after the normalisation, and is now a pixel of the zero point, which is the mean colour to within a few levels.
    """
    graph = model.graph
    (image,) = graph.input
    constants = {tensor.name: tensor for tensor in graph.initializer}
    chain = _chain(graph, constants)
    if chain is None:
        return Entry(image)
    nodes, conv, scale, shift = chain
    weight = numpy_helper.to_array(constants[conv.input[1]]).astype(np.float64)
    bias = numpy_helper.to_array(constants[conv.input[2]]) if len(conv.input) > 2 else np.zeros(len(weight))
    # The pixel that becomes zero, as one number for all three channels: a quantised tensor has but one.
    zero_point = int(np.clip(np.rint((-shift / scale).mean()), 0, 255))
    offset = shift + scale * zero_point
    graph.initializer.append(_constant(weight * scale[:, None, None], WEIGHT))
    graph.initializer.append(_constant(bias + (weight * offset[:, None, None]).sum((1, 2, 3)), BIAS))
    conv.input[:] = [PIXELS, WEIGHT, BIAS]
    for node in nodes:
        graph.node.remove(node)
    _, height, width, channels = image.type.tensor_type.shape.dim
    del graph.input[:]
    shape: list[int | str] = [BATCH, channels.dim_value, height.dim_value, width.dim_value]
    graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, shape))
    drop_unused(model)
    return Entry(image, zero_point)


def read_images(model: onnx.ModelProto, entry: Entry) -> None:
    """Give the quantised graph its input `image` back: the pixels are what its first operator reads."""
    if entry.zero_point is None:
        return
    graph = model.graph
    pixels = next((n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == PIXELS), None)
    others = any(PIXELS in node.input for node in graph.node if node is not pixels)
    quantised = pixels.output[0] if pixels is not None else f"{PIXELS}.quantised"
    if pixels is not None:
        graph.node.remove(pixels)
    if others:
        # An operator that was left in float32 reads them as floats.
        graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), SCALE))
        graph.initializer.append(numpy_helper.from_array(np.array(entry.zero_point, np.uint8), ZERO_POINT))
        graph.node.insert(0, helper.make_node("DequantizeLinear", [quantised, SCALE, ZERO_POINT], [PIXELS]))
    graph.node.insert(0, helper.make_node("Transpose", [INPUT], [quantised], perm=TO_CHANNELS_FIRST))
    del graph.input[:]
    graph.input.append(entry.image)


def drop_unused(model: onnx.ModelProto) -> None:
    """Initialisers that no node reads any more; ONNX Runtime warns of each."""
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)


def _chain(
    graph: onnx.GraphProto, constants: dict[str, TensorProto]
) -> tuple[list[onnx.NodeProto], onnx.NodeProto, NDArray[np.float64], NDArray[np.float64]] | None:
    """The nodes from `image` to its only reader, a convolution; with scale and shift of the three channels."""
    scale, shift = np.ones(3), np.zeros(3)
    nodes: list[onnx.NodeProto] = []
    at = INPUT
    while True:
        readers = [node for node in graph.node if at in node.input]
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.op_type == "Conv":
            fits = node.input[1] in constants and (len(node.input) < 3 or node.input[2] in constants)
            is_float = any(n.op_type == "Cast" for n in nodes) and any(n.op_type == "Transpose" for n in nodes)
            grouped = any(a.name == "group" and a.i != 1 for a in node.attribute)
            return (nodes, node, scale, shift) if fits and is_float and not grouped else None
        if node.op_type in ("Mul", "Add"):
            value = next((constants[name] for name in node.input if name in constants), None)
            factors = _by_channel(value)
            if factors is None:
                return None
            scale = scale * factors if node.op_type == "Mul" else scale
            shift = shift * factors if node.op_type == "Mul" else shift + factors
        elif node.op_type == "Transpose":
            if [list(a.ints) for a in node.attribute] != [TO_CHANNELS_FIRST]:
                return None
        elif node.op_type != "Cast":
            return None
        nodes.append(node)
        at = node.output[0]


def _by_channel(value: TensorProto | None) -> NDArray[np.float64] | None:
    if value is None:
        return None
    array = numpy_helper.to_array(value).astype(np.float64)
    if array.size == 1:
        return np.repeat(array.reshape(1), 3)
    return array.reshape(3) if array.shape[-3:] == (3, 1, 1) and array.size == 3 else None


def _constant(values: NDArray[np.floating], name: str) -> TensorProto:
    return numpy_helper.from_array(values.astype(np.float32), name)
