"""A real ONNX artifact that tells red, green and blue apart, made in milliseconds without torch."""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.artifact import FLOAT32, Manifest, model_file, write_manifest
from models.spec import Preprocessing

LABELS = ("red", "green", "blue")
SIZE = 32
NONE: Mapping[str, Any] = MappingProxyType({})


def make_colour_artifact(
    folder: Path,
    *,
    labels: tuple[str, ...] = LABELS,
    is_slow: bool = False,
    variants: Mapping[str, bool] = NONE,
    findings: Mapping[str, dict[str, Any]] = NONE,
) -> Manifest:
    """Logits are eight times the mean of each channel, so that the brightest channel wins clearly.

    `variants` are precisions, and whether each is slow. Each has the same graph under another name: to whom it
    serves, the precision is what the manifest says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for precision, slow in {FLOAT32: is_slow, **variants}.items():
        onnx.save(_colours(slow), folder / model_file(precision))
    reports = {precision: {"precision": precision, "passed": True} for precision in variants}
    view = Preprocessing(SIZE, SIZE, SIZE, fit="squash")
    manifest = Manifest("colours", labels, view, "colours", variants=reports, findings=dict(findings))
    return write_manifest(folder, manifest)


def _colours(is_slow: bool) -> onnx.ModelProto:
    """A slow one computes a thousand sums more for each image, which are nothing."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["brightness"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [8 / 255]),
    ]
    if is_slow:
        nothing = np.zeros((SIZE * SIZE * 3, 1000), np.float32)
        constants.append(numpy_helper.from_array(nothing, "nothing"))
        nodes += [
            helper.make_node("Flatten", ["pixels"], ["row"]),
            helper.make_node("MatMul", ["row", "nothing"], ["sums"]),
            helper.make_node("ReduceSum", ["sums"], ["sum"]),
            helper.make_node("Add", ["brightness", "sum"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["brightness"], ["logits"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
            for name in ("logits", "probabilities")
        ],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


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
