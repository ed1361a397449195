"""What an ONNX graph says of itself: its shapes, and what lets the file be used alone. Knows no torch."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from models.artifact import software_versions
from models.errors import ExportFailed
from models.predictor import ACTIVATION_BYTES
from models.spec import INPUT, Preprocessing

BATCH = "batch"
# For whoever finds the file without its manifest.
USAGE = (
    f"Input {INPUT!r}: uint8 [batch, height, width, 3], RGB, resized and cropped as `preprocessing` says. The "
    "graph itself divides by 255, applies mean and std, and divides logits by the temperature before the softmax."
)


def describe(
    graph: onnx.ModelProto,
    *,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    temperature: float,
    opset: int,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write all that is needed to use the file without its manifest into its metadata, as JSON, in place."""
    facts = {
        "labels": list(labels),
        "preprocessing": {**preprocessing.to_dict(), "applied_in_graph": ["mean", "std"]},
        "temperature": temperature,
        "usage": USAGE,
        "opset": opset,
        "software": software_versions(),
        ACTIVATION_BYTES: _activation_bytes(graph),
        **(metadata or {}),
    }
    onnx.helper.set_model_props(
        graph, {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()}
    )


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Its sizes; those that are not fixed by their names."""
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


def serialized(graph: onnx.ModelProto) -> bytes:
    """The graph as one file. Raises ExportFailed where that would be more than 2 GB."""
    try:
        content: bytes = graph.SerializeToString()
    except ValueError as exc:
        raise ExportFailed(f"the network does not fit into one ONNX file of 2 GB: {exc}") from exc
    return content


def _activation_bytes(graph: onnx.ModelProto) -> int:
    """The most that one node's input and output hold for one image: about what a run needs beside the weights."""
    sizes = {value.name: _bytes_per_image(value) for value in (*graph.graph.value_info, *graph.graph.output)}
    needs = (sum(sizes.get(name, 0) for name in (*node.input, *node.output)) for node in graph.graph.node)
    return max(needs, default=0)


def _bytes_per_image(value: onnx.ValueInfoProto) -> int:
    shape = shape_of(value)
    if not shape or shape[0] != BATCH:
        return 0
    return 4 * math.prod(size for size in shape if isinstance(size, int))
