"""From a torch network to the one file that is served. Knows the gate it must pass, and nothing of registries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from models.artifact import MODEL
from models.backbone_graph import with_head
from models.errors import ExportFailed
from models.feature_outputs import add_feature_outputs
from models.graph_facts import BATCH, describe, serialized, shape_of
from models.parity import check_parity
from models.parity_report import ParityReport
from models.served import Served
from models.spec import INPUT, OUTPUTS, Preprocessing
from models.tracing import OPSET, trace
from models.zoo.layout import split_network


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
    describe(
        graph,
        labels=labels,
        preprocessing=preprocessing,
        temperature=temperature,
        opset=OPSET,
        metadata=metadata,
    )
    _check_signature(graph, preprocessing, len(labels))
    outputs = {name: [len(labels)] for name in OUTPUTS} | add_feature_outputs(graph)
    model.write_bytes(serialized(graph))
    return outputs


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
