"""A version that knows its training images: the colours' graph with an embedding, and what is searched."""

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from support.colours import LABELS, SIZE, make_colour_artifact

from models.artifact import MODEL, Manifest, write_manifest
from models.neighbours.neighbours import FINDING, write_neighbours


def embedding_of(image: bytes) -> NDArray[np.float32]:
    """What the graph makes of the picture: the mean of each channel, float32 `[3]`."""
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    means: NDArray[np.float32] = pixels.astype(np.float32).mean(axis=(0, 1))
    return means


def make_taught_artifact(
    folder: Path,
    images: Mapping[str, tuple[str, bytes]],
    dataset: Mapping[str, object],
    *,
    exact_up_to: int = 100_000,
) -> Manifest:
    """Of `images` by their sha256, each with its label."""
    manifest = make_colour_artifact(folder)
    graph = onnx.load(folder / MODEL)
    graph.graph.node.append(helper.make_node("Identity", ["means"], ["embedding"]))
    graph.graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3]))
    onnx.save(graph, folder / MODEL)
    embeddings = np.stack([embedding_of(data) for _, data in images.values()])
    targets = np.array([LABELS.index(label) for label, _ in images.values()])
    write_neighbours(folder, embeddings, list(images), targets, LABELS, exact_up_to=exact_up_to)
    return write_manifest(
        folder,
        dataclasses.replace(
            manifest,
            outputs={"logits": [3], "probabilities": [3], "embedding": [3]},
            dataset=dict(dataset),
            findings={FINDING: {"images": len(images), "dimensions": 3}},
        ),
    )
