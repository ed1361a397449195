"""A version of `colours` with an embedding and a sketch of its validation images, as a fine-tune leaves it."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image
from support.colours import LABELS, SIZE, make_colour_artifact

from models.artifact import MODEL, Manifest, write_manifest
from models.drift.describe import describe
from models.predictor import Predictor
from models.preprocess import prepare
from models.spec import EMBEDDING, PROBABILITIES

VALIDATION = 90


def pictures(count: int, *, colours: Sequence[str] = LABELS, seed: int = 1, bright: float = 1.0) -> list[bytes]:
    """Noisy pictures, each colour in its turn, more or less of it in each."""
    rng = np.random.default_rng(seed)
    return [mixed(colours[n % len(colours)], rng, bright) for n in range(count)]


def mixed(colour: str, rng: np.random.Generator, bright: float = 1.0) -> bytes:
    """A picture whose colour is more or less clear."""
    pixels = np.full((SIZE, SIZE, 3), 40.0)
    pixels += rng.normal(0, 12, (1, 1, 3))
    pixels[..., LABELS.index(colour)] += rng.uniform(10, 120)
    pixels = np.clip(pixels * bright + rng.normal(0, 5, pixels.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_drifting_artifact(folder: Path, *, has_embedding: bool = True, validation: int = VALIDATION) -> Manifest:
    """The means of the channels are the embedding."""
    manifest = make_colour_artifact(folder)
    graph = onnx.load(folder / MODEL)
    if has_embedding:
        graph.graph.node.append(helper.make_node("Identity", ["means"], [EMBEDDING]))
        graph.graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", 3]))
        onnx.save(graph, folder / MODEL)
        manifest = write_manifest(folder, replace(manifest, outputs={EMBEDDING: [3]}))
    return write_manifest(folder, replace(manifest, findings={"drift": finding(folder, validation)}))


def finding(folder: Path, validation: int = VALIDATION) -> dict[str, Any]:
    predictor = Predictor(folder, device="cpu")
    outputs = [name for name in (PROBABILITIES, EMBEDDING) if name in predictor.outputs]
    images = np.stack([prepare(each, predictor.preprocessing) for each in pictures(validation)])
    found = dict(zip(outputs, predictor.run(images, outputs), strict=True))
    reference = describe(found[PROBABILITIES], found.get(EMBEDDING), LABELS)
    return {"images": validation, "reference": reference.to_dict()}
