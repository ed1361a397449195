"""From a torch network to the one file that is served. Knows the gate it must pass, and nothing of registries."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from models.artifact import MODEL, software_versions
from models.backbone_graph import with_head
from models.errors import ExportFailed
from models.feature_outputs import add_feature_outputs
from models.parity import ParityReport, check_parity
from models.predictor import ACTIVATION_BYTES
from models.served import Served
from models.spec import INPUT, OUTPUTS, Preprocessing
from models.tracing import BATCH, OPSET, serialized, shape_of, trace
from models.zoo.layout import split_network

# For whoever finds the file without its manifest.
USAGE = (
    f"Input {INPUT!r}: uint8 [batch, height, width, 3], RGB, resized and cropped as `preprocessing` says. The "
    "graph itself divides by 255, applies mean and std, and divides logits by the temperature before the softmax."
)


def export(
    network: nn.Module,
    folder: Path,
    *,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    images: NDArray[np.uint8],
    channels: int = 3,
    temperature: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
) -> ParityReport:
    """Write `folder/model.onnx` and prove it against torch on `images`, uint8 `[n, height, width, 3]`.

    Raises ExportFailed when torch cannot write the network, ExportMismatch (with the report) when the file does
    not compute what torch computes; the file is then left for inspection, and nothing may publish it.
    """
    model = folder / MODEL
    to_onnx(
        network,
        model,
        preprocessing=preprocessing,
        labels=labels,
        channels=channels,
        temperature=temperature,
        metadata=metadata,
    )
    return check_parity(
        network, model, images, preprocessing=preprocessing, channels=channels, temperature=temperature
    )


def to_onnx(
    network: nn.Module,
    model: Path,
    *,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    channels: int = 3,
    temperature: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
    backbone: Path | None = None,
) -> dict[str, list[int]]:
    """Write `network` as a single ONNX file that can be used alone; the sizes of its outputs for one image.

    Input `image`: uint8 `[batch, height, width, 3]`, RGB. Outputs `logits` and `probabilities`: float32
    `[batch, len(labels)]`, and what `models.feature_outputs` finds in it. Labels, preprocessing, temperature,
    software versions and what the graph applies by itself are in the file's metadata as JSON, with whatever
    `metadata` adds. `backbone` is the graph of the network's own backbone, as `models.backbone_graph` writes it:
    then nothing is traced, and the network's linear head is put onto it. Raises ExportFailed.
    """
    if backbone is None:
        graph = trace(
            Served(network, preprocessing, channels=channels, temperature=temperature), preprocessing, OUTPUTS
        )
    else:
        graph = with_head(backbone, split_network(network).head, temperature)
    facts = {
        "labels": list(labels),
        "preprocessing": {**preprocessing.to_dict(), "applied_in_graph": ["mean", "std"]},
        "temperature": temperature,
        "usage": USAGE,
        "opset": OPSET,
        "software": software_versions(),
        ACTIVATION_BYTES: _activation_bytes(graph),
        **(metadata or {}),
    }
    onnx.helper.set_model_props(
        graph, {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()}
    )
    _check_signature(graph, preprocessing, len(labels))
    outputs = {name: [len(labels)] for name in OUTPUTS} | add_feature_outputs(graph)
    model.write_bytes(serialized(graph))
    return outputs


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


def _check_signature(graph: onnx.ModelProto, preprocessing: Preprocessing, classes: int) -> None:
    found = {value.name: shape_of(value) for value in (*graph.graph.input, *graph.graph.output)}
    expected: dict[str, list[int | str]] = {
        INPUT: [BATCH, preprocessing.height, preprocessing.width, 3],
        **{name: [BATCH, classes] for name in OUTPUTS},
    }
    if found != expected:
        raise ExportFailed(
            f"the exported graph has the shapes {found}; expected {expected}, one column for each label"
        )
