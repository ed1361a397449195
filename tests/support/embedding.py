"""The colours' artifact, which gives an embedding as well: how bright each channel is."""

import dataclasses
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from support.colours import make_colour_artifact

from models.artifact import FLOAT32, Manifest, model_file, write_manifest
from models.spec import EMBEDDING


def make_embedding_artifact(folder: Path) -> Manifest:
    manifest = make_colour_artifact(folder)
    file = folder / model_file(FLOAT32)
    model = onnx.load(file)
    model.graph.node.append(helper.make_node("Identity", ["means"], [EMBEDDING]))
    model.graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", 3]))
    onnx.save(model, file)
    outputs = {"logits": [3], "probabilities": [3], EMBEDDING: [3]}
    return write_manifest(folder, dataclasses.replace(manifest, outputs=outputs))
