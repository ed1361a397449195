"""A float32 graph as one that computes in float16, for a GPU; what it takes and gives stays as it is."""

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

# Sums of a whole row of exponents, and the division by the temperature before them.
LAST = ("Softmax", "Div", "LogSoftmax")


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float32 inputs, outputs, normalisation and softmax, and all between in float16."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    kept = [node.name for node in model.graph.node if node.op_type in LAST]
    converted: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=[*kept, *_first(model.graph)]
    )
    return converted


def _first(graph: onnx.GraphProto) -> list[str]:
    """The names of the normalisation's nodes: those before the first that weighs its input."""
    found = []
    for node in graph.node:
        if node.op_type not in ("Transpose", "Cast", "Mul", "Add"):
            break
        found.append(node.name)
    return found
