"""Real ONNX artifacts that tell red, green and blue apart by a feature map of 4 by 4, made in milliseconds."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.colours import LABELS

from models.artifact import MODEL, Manifest, write_manifest
from models.spec import Preprocessing

SIZE, CELLS = 32, 4
VIEW = Preprocessing(SIZE, SIZE, SIZE, fit="crop", mean=(0, 0, 0), std=(1, 1, 1))


def make_quadrants(folder: Path, *, pooled: bool = True) -> Manifest:
    """The map is the mean colour of each cell. Behind it the mean of all, and one linear layer; not `pooled`, a
    linear layer on all cells, a ReLU and another one, as in networks with dense layers."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(pooled), folder / MODEL)
    outputs = {"logits": [3], "probabilities": [3], "feature_map": [3, CELLS, CELLS], "embedding": [3]}
    return write_manifest(folder, Manifest("quadrants", LABELS, VIEW, "quadrants", outputs=outputs))


def halves(left: str, right: str, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    """uint8 `[height, width, 3]`: one colour on each side."""
    width, height = size
    pixels = np.full((height, width, 3), 20, np.uint8)
    pixels[:, : width // 2, LABELS.index(left)] = 220
    pixels[:, width // 2 :, LABELS.index(right)] = 220
    return pixels


def _graph(pooled: bool) -> onnx.ModelProto:
    weights = (6 * np.eye(3) - 3).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "most"], ["shares"]),
        helper.make_node("Transpose", ["shares"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool",
            ["planes"],
            ["feature_map"],
            kernel_shape=[SIZE // CELLS] * 2,
            strides=[SIZE // CELLS] * 2,
        ),
        helper.make_node("GlobalAveragePool", ["feature_map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    constants = [
        helper.make_tensor("most", TensorProto.FLOAT, [], [255]),
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.zeros(3, np.float32), "bias"),
    ]
    if pooled:
        nodes.append(helper.make_node("Gemm", ["embedding", "weights", "bias"], ["logits"], transB=1))
    else:
        summed = np.repeat(np.eye(3), CELLS * CELLS, axis=1).astype(np.float32)
        constants.append(numpy_helper.from_array(summed, "dense"))
        nodes += [
            helper.make_node("Flatten", ["feature_map"], ["row"]),
            helper.make_node("Gemm", ["row", "dense"], ["sums"], transB=1),
            helper.make_node("Sqrt", ["sums"], ["roots"]),
            helper.make_node("Gemm", ["roots", "weights", "bias"], ["logits"], transB=1),
        ]
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    given = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes])
        for name, sizes in (
            ("logits", [3]),
            ("probabilities", [3]),
            ("feature_map", [3, CELLS, CELLS]),
            ("embedding", [3]),
        )
    ]
    graph = helper.make_graph(nodes, "quadrants", [given], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
