"""A version that knows its training images: the colours' graph with an embedding, and what is searched."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from support.colours import LABELS, SIZE, make_colour_artifact
from support.stack import Stack

from models.artifact import MODEL, Manifest, read_manifest, write_manifest
from models.neighbours.neighbours import FINDING, write_neighbours
from storage.blobs import BlobStore


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


def publish_taught(
    stack: Stack, model: str, files: Mapping[str, bytes], dataset: Mapping[str, object], **how: int
) -> None:
    """A version of the model in a running service that was taught files like `red/1.png`."""
    artifact = f"models/{model}/1/"
    folder = stack.folder / "made" / artifact
    images = {hashlib.sha256(data).hexdigest(): (name.partition("/")[0], data) for name, data in files.items()}
    make_taught_artifact(folder, images, dataset, **how)
    register(stack, model, artifact, folder)


def register(stack: Stack, model: str, artifact: str, folder: Path) -> None:
    BlobStore((stack.folder / "blobs").as_uri()).put_folder(artifact, folder)
    manifest = read_manifest(folder).to_dict()
    with stack.registry() as registry:
        registry.add_version(model, artifact=artifact, manifest=manifest, size_bytes=1)
