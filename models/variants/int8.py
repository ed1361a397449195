"""A float32 graph as an INT8 one, by ONNX Runtime's static quantiser: 8-bit activations, signed 8-bit weights."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from models.variants.pixels import PIXELS, Entry, read_images
from models.variants.ranges import Range

# What gains by integers, or passes them on. Not Softmax: 8 bits hold no probabilities. Not Mul and Sigmoid.
OPERATORS = (
    "Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Concat", "Pad", "Split", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Resize",
)  # fmt: skip


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constants and batch normalisations folded and all shapes known, as the quantiser wants it."""
    with tempfile.TemporaryDirectory(prefix="fovea-variant-") as folder, _quiet():
        given, found = Path(folder) / "given.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, given)
        # Symbolic shapes tell a convolutional network nothing new, and their algebra takes 8 s to import.
        quant_pre_process(given, found, skip_symbolic_shape=True)
        result = onnx.load(found)
    _name_nodes(result)
    return result


def quantised(
    model: onnx.ModelProto,
    entry: Entry,
    ranges: Mapping[str, Range],
    *,
    per_channel: bool,
    float_nodes: Collection[str] = (),
) -> onnx.ModelProto:
    """The INT8 graph of a `prepared` one; `ranges` are of its activations, `float_nodes` stay as they are."""
    options: dict[str, Any] = {}
    if entry.zero_point is not None:
        options["TensorQuantOverrides"] = {
            PIXELS: [{"scale": np.array(1, np.float32), "zero_point": np.array(entry.zero_point, np.uint8)}]
        }
    # What leaves the graph is a float: to round it first would only cost.
    options["OpTypesToExcludeOutputQuantization"] = ["Gemm"] if _last_is_gemm(model) else []
    data = {name: tuple(np.array(end, np.float32) for end in ends) for name, ends in ranges.items()}
    with tempfile.TemporaryDirectory(prefix="fovea-variant-") as folder, _quiet():
        given, found, known = (Path(folder) / name for name in ("given.onnx", "found.onnx", "ranges.json"))
        onnx.save(model, given)
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), known)
        quantize_static(
            given,
            found,
            None,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(float_nodes),
            extra_options=options,
            calibration_cache_path=known,
        )
        result = onnx.load(found)
    read_images(result, entry)
    _keep_in_float(result, model, float_nodes)
    return result


def _keep_in_float(made: onnx.ModelProto, original: onnx.ModelProto, names: Collection[str]) -> None:
    """Have ONNX Runtime leave the nodes alone that were left in float32.

    One that reads dequantised numbers and whose output is quantised it turns into an INT8 one when it loads the
    graph, with one scale for all of its weights (its WeightBiasQuantization). It does not where the scale of what
    the node reads is given channel by channel, which says the same.
    """
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    weights = {tensor.name: tensor for tensor in original.graph.initializer}
    producers = {name: node for node in made.graph.node for name in node.output}
    for at, node in reversed(list(enumerate(made.graph.node))):
        source = producers.get(node.input[0]) if node.input else None
        if node.name not in names or node.op_type not in ("Conv", "Gemm") or node.input[1] not in weights:
            continue
        if source is None or source.op_type != "DequantizeLinear":
            continue
        channels = _channels(node, weights[node.input[1]])
        copies = []
        for name in source.input[1:]:
            values = np.broadcast_to(numpy_helper.to_array(constants[name]).reshape(-1), (channels,))
            made.graph.initializer.append(numpy_helper.from_array(values.copy(), f"{node.name}.{name}"))
            copies.append(f"{node.name}.{name}")
        own = f"{node.name}.{node.input[0]}"
        made.graph.node.insert(
            at, helper.make_node("DequantizeLinear", [source.input[0], *copies], [own], name=own, axis=1)
        )
        node.input[0] = own


def _channels(node: onnx.NodeProto, weight: onnx.TensorProto) -> int:
    """How many channels, or columns, the node reads."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":
        return int(weight.dims[1]) * int(attributes.get("group", 1))
    return int(weight.dims[1] if attributes.get("transB", 0) else weight.dims[0])


def _last_is_gemm(model: onnx.ModelProto) -> bool:
    outputs = {value.name for value in model.graph.output}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    return len(gemms) == 1 and gemms[0].output[0] in outputs


def _name_nodes(model: onnx.ModelProto) -> None:
    """The quantiser leaves nodes out by their names, so each needs one of its own."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints, and advises on the root logger what has been done already."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
