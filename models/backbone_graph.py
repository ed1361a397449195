"""A backbone as an ONNX graph of its own: exported once, kept by content, and given one head after the other.

To trace a network takes seconds, and what is taught by its head alone differs from the last time in two arrays.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.artifact import software_versions
from models.errors import ExportFailed
from models.graph_facts import BATCH, serialized, shape_of
from models.served import ServedBackbone
from models.spec import EMBEDDING, OUTPUTS, Preprocessing
from models.tracing import OPSET, trace
from system.files import sha256_of, write_whole

# What a graph depends on beside the network: each may write the same network in another way.
WRITERS = ("torch", "onnx", "onnxscript")
HEAD_WEIGHT, HEAD_BIAS, TEMPERATURE, SCALED = "head.weight", "head.bias", "head.temperature", "scaled_logits"

logger = logging.getLogger(__name__)


class BackboneGraphs:
    """Graphs by what they are of, in a folder that several trainers may share.

    A file's name ends with the sha256 of its content, and what does not fit its name is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self, backbone: nn.Module, preprocessing: Preprocessing, identity: str, into: Path) -> None:
        """Write the graph of `backbone` to `into`; export and keep it first where it is not kept.

        `identity` tells the backbone, its weights and the preprocessing from all others. The copy is the caller's:
        what others evict meanwhile does not matter to it. Raises ExportFailed, and OSError on a full disk.
        """
        key = graph_key(identity)
        into.parent.mkdir(parents=True, exist_ok=True)
        for kept in sorted(self.folder.glob(f"{key}-*.onnx")):
            if self._take(kept, into):
                return
        content = serialized(backbone_graph(backbone, preprocessing))
        # The last one to finish wins, and all of them wrote the same.
        write_whole(self.folder / f"{key}-{hashlib.sha256(content).hexdigest()}.onnx", content)
        into.write_bytes(content)

    def _take(self, kept: Path, into: Path) -> bool:
        """Whether `into` now holds what the file's name says. What is verified is what is used."""
        try:
            # The files that were used last stay longest.
            os.utime(kept)
            shutil.copyfile(kept, into)
        except FileNotFoundError:
            return False
        if sha256_of(into) == kept.stem.rpartition("-")[2]:
            return True
        logger.warning("%s is damaged and is made anew", kept.name)
        with contextlib.suppress(FileNotFoundError):
            kept.unlink()
        return False


def graph_key(identity: str) -> str:
    """The name that a graph is kept under: it depends on the backbone and on what wrote it."""
    versions = software_versions()
    writers = "/".join(f"{name} {versions.get(name)}" for name in WRITERS)
    return hashlib.sha256(f"backbone/1/{OPSET}/{writers}/{identity}".encode()).hexdigest()


def backbone_graph(backbone: nn.Module, preprocessing: Preprocessing) -> onnx.ModelProto:
    """Takes `image` as all graphs of Fovea, gives `embedding`, float32 `[batch, n]`: what a linear head reads.

    Raises ExportFailed when torch cannot write it, or when its features are more than a row for each image.
    """
    graph = trace(ServedBackbone(backbone, preprocessing), preprocessing, [EMBEDDING])
    (output,) = graph.graph.output
    shape = shape_of(output)
    if len(shape) != 2 or shape[0] != BATCH or not isinstance(shape[1], int):
        raise ExportFailed(f"the backbone's graph gives {shape}; expected [batch, n]: a row for each image")
    return graph


def with_head(backbone: Path, head: nn.Module, temperature: float) -> onnx.ModelProto:
    """The backbone's graph with a linear head on it, as the whole network would have been written.

    Outputs `logits` and `probabilities`, float32 `[batch, classes]`. Raises ExportFailed for a head that is not
    one linear layer with a bias, or that reads another number of features.
    """
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise ExportFailed(
            f"a {type(head).__name__} cannot be put onto a backbone's graph; expected a linear layer"
        )
    model = onnx.load(backbone)
    graph = model.graph
    (embedding,) = graph.output
    if shape_of(embedding) != [BATCH, head.in_features]:
        raise ExportFailed(
            f"the backbone gives {shape_of(embedding)}, but the head reads {head.in_features} numbers"
        )
    logits, probabilities = OUTPUTS
    graph.initializer.extend([_array(HEAD_WEIGHT, head.weight), _array(HEAD_BIAS, head.bias)])
    graph.node.append(helper.make_node("Gemm", [EMBEDDING, HEAD_WEIGHT, HEAD_BIAS], [logits], transB=1))
    graph.value_info.append(embedding)
    scaled = logits
    shape: list[int | str | None] = [BATCH, head.out_features]
    if temperature != 1.0:
        scaled = SCALED
        graph.initializer.append(_array(TEMPERATURE, torch.tensor(temperature)))
        graph.node.append(helper.make_node("Div", [logits, TEMPERATURE], [scaled]))
        graph.value_info.append(helper.make_tensor_value_info(scaled, TensorProto.FLOAT, shape))
    graph.node.append(helper.make_node("Softmax", [scaled], [probabilities], axis=1))
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in OUTPUTS)
    return model


def _array(name: str, values: torch.Tensor) -> TensorProto:
    return numpy_helper.from_array(values.detach().cpu().float().numpy(), name)
