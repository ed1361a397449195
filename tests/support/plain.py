"""The plain artifact of the bench for red, green and blue, made in milliseconds without torch."""

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from support.colours import LABELS, SIZE

from benchmarks.plain import FACTS, PLAIN


def make_plain_artifact(folder: Path) -> None:
    """Logits are four times the mean of each channel, so that the brightest channel wins clearly."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "scale"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [4.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / PLAIN)
    view = {"resize": SIZE, "height": SIZE, "width": SIZE, "mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / FACTS).write_text(json.dumps({"view": view, "labels": LABELS}))
