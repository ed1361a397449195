"""How strongly each filter answers each image, and where: read within the graph, one number for each filter."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.filters.deep_layers import DeepLayer
from models.graph_facts import serialized
from models.training.graph_run import run_graph

FLAT, AXIS = "filters.flat", "filters.axis"


@dataclass(frozen=True)
class Excitation:
    """Of one layer: the largest value of each filter in each image, float32 `[images, channels]`, and its place.

    `places` are int64, rows of the map one after another.
    """

    layer: DeepLayer
    values: NDArray[np.float32]
    places: NDArray[np.int64]


def excitation_graph(model: onnx.ModelProto, layers: Sequence[DeepLayer]) -> onnx.ModelProto:
    """What the layers need of the graph, with two outputs for each: the maps themselves never leave it."""
    wanted = {layer.tensor for layer in layers}
    kept = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    nodes, outputs = list(reversed(kept)), []
    for i, layer in enumerate(layers):
        flat, value, place = f"filters.{i}.flat", f"filters.{i}.value", f"filters.{i}.place"
        nodes += [
            helper.make_node("Reshape", [layer.tensor, FLAT], [flat]),
            helper.make_node("ReduceMax", [flat, AXIS], [value], keepdims=0),
            helper.make_node("ArgMax", [flat], [place], axis=2, keepdims=0),
        ]
        outputs += [
            helper.make_tensor_value_info(value, TensorProto.FLOAT, None),
            helper.make_tensor_value_info(place, TensorProto.INT64, None),
        ]
    graph = helper.make_graph(nodes, "filters", list(model.graph.input), outputs)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in wanted)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0, 0, -1], np.int64), FLAT),
            numpy_helper.from_array(np.array([2], np.int64), AXIS),
        ]
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def excite(
    graph: onnx.ModelProto,
    layers: Sequence[DeepLayer],
    images: NDArray[np.uint8],
    *,
    scratch: Path,
    threads: int,
) -> list[Excitation]:
    """Of `excitation_graph`'s graph. `images` are prepared, uint8 `[n, height, width, 3]`; `scratch` is a folder.

    Raises PredictionFailed, OutOfMemory, and OSError on a full disk.
    """
    names = [output.name for output in graph.graph.output]
    with tempfile.TemporaryDirectory(dir=scratch, prefix="filters-") as folder:
        file = Path(folder) / "filters.onnx"
        file.write_bytes(serialized(graph))
        rows = (torch.from_numpy(image.copy()) for image in images)
        batches = [tuple(found) for found in run_graph(file, names, rows, threads=threads)]
    found = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return [
        Excitation(layer, values, places.astype(np.int64))
        for layer, values, places in zip(layers, found[::2], found[1::2], strict=True)
    ]
