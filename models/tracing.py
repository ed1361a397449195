"""From a torch module to an ONNX graph in memory. Knows neither what the graph is for nor where it will lie."""

from collections.abc import Sequence

import onnx
import torch
from torch import nn

from models.errors import ExportFailed
from models.graph_facts import BATCH
from models.spec import INPUT, Preprocessing

# The newest that torch writes without a conversion afterwards.
OPSET = 20


def trace(module: nn.Module, preprocessing: Preprocessing, outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph of a module that takes prepared pixels, uint8 `[batch, height, width, 3]`, for any batch.

    Raises ExportFailed when torch cannot write it.
    """
    example = torch.zeros(2, preprocessing.height, preprocessing.width, 3, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            input_names=[INPUT],
            output_names=list(outputs),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as exc:
        # The exporter wraps the reason in a page of advice for its own developers.
        reason = str(exc.__cause__ or exc).partition("\n")[0]
        raise ExportFailed(f"torch cannot write this network as ONNX: {reason}") from exc
    if program is None:
        raise ExportFailed("torch's exporter returned no program")
    graph = program.model_proto
    _forget_sources(graph)
    return graph


def _forget_sources(graph: onnx.ModelProto) -> None:
    """Drop the exporter's notes: source lines and paths of the machine that trained are nobody else's business."""
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in graph.graph.initializer:
        tensor.ClearField("metadata_props")
