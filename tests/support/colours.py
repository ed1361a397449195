"""A real ONNX artifact that tells red, green and blue apart, made in milliseconds without torch."""

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from models.artifact import Manifest, write_manifest
from models.spec import Preprocessing

LABELS = ("red", "green", "blue")
SIZE = 32


def make_colour_artifact(folder: Path, *, labels: tuple[str, ...] = LABELS) -> Manifest:
    """Logits are eight times the mean of each channel, so that the brightest channel wins clearly."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
            for name in ("logits", "probabilities")
        ],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [8 / 255]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return write_manifest(
        folder, Manifest("colours", labels, Preprocessing(SIZE, SIZE, SIZE, fit="squash"), "colours")
    )


def picture(colour: str, *, size: tuple[int, int] = (48, 40), form: str = "PNG", noise: int = 0) -> bytes:
    """A picture that is mostly `colour`; `noise` makes each seed's bytes different."""
    pixels = np.full((size[1], size[0], 3), 40, np.uint8)
    pixels[..., LABELS.index(colour)] = 220
    if noise:
        speckle = np.random.default_rng(noise).integers(0, 30, pixels.shape, np.uint8)
        pixels = np.clip(pixels.astype(np.int16) + speckle - 15, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()
