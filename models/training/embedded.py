"""What a finished version makes of the images that it was taught and judged by: logits and embeddings.

They cost nothing where the features of a frozen backbone are at hand, and else a pass through the exported graph.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.devices import Device
from models.spec import EMBEDDING, LOGITS
from models.training.augment import Transform, eval_transform
from models.training.eval_inputs import EvalFeatures, EvalInputs
from models.training.graph_run import run_graph
from models.training.inputs import TrainingInputs
from models.training.loop import evaluate
from models.training.pixels import Pixels
from models.training.progress import OnProgress
from models.training.split import ImageList
from models.training.train import TrainedModel

# Of the embeddings of one part; of more images than that every second one is taken, or every third.
MOST_BYTES = 2 * 2**30


@dataclass(frozen=True)
class EmbeddedImages:
    """Of one part of a split, in its order: those at `rows`, int64 [n], which are all unless there are too many.

    `logits` are float32 [n, classes], `targets` int64 [n]; `embedding` is float32 [n, D], as the graph's output of
    that name, and None where the graph has none.
    """

    images: ImageList
    rows: NDArray[np.int64]
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def targets(self) -> NDArray[np.int64]:
        return self.images.targets[self.rows]


@dataclass(frozen=True)
class EmbeddedSplit:
    """Training images as serving would show them, without augmentation."""

    train: EmbeddedImages
    validation: EmbeddedImages
    test: EmbeddedImages


def embed_split(
    trained: TrainedModel,
    model: Path,
    outputs: dict[str, list[int]],
    inputs: TrainingInputs,
    *,
    threads: int,
    device: Device = "cpu",
    on_progress: OnProgress | None = None,
) -> EmbeddedSplit:
    """`model` is the exported graph, `outputs` its outputs with their sizes for one image.

    Raises PredictionFailed, OutOfMemory and DeviceUnavailable where the graph cannot be run.
    """
    split, whole = inputs.split, _linear_head(trained.network)
    parts = (
        (split.train, trained.features),
        (split.validation, trained.validation),
        (split.test, trained.test),
    )
    if whole is not None and all(isinstance(features, EvalFeatures) for _, features in parts):
        return EmbeddedSplit(*(_by_features(images, features, whole) for images, features in parts))
    graph = _Graph(model, tuple(name for name in (LOGITS, EMBEDDING) if name in outputs), threads, device)
    middle = eval_transform(inputs.preprocessing)
    shown = (
        (split.train, inputs.train, middle),
        (split.validation, inputs.validation, None),
        (split.test, inputs.test, None),
    )
    rows = [_rows(len(images), math.prod(outputs.get(EMBEDDING, [0]))) for images, _, _ in shown]
    total, done = sum(map(len, rows)), 0
    found: list[EmbeddedImages] = []
    for (images, pixels, transform), taken in zip(shown, rows, strict=True):
        found.append(graph.embed(images, pixels, taken, transform, _after(on_progress, done, total)))
        done += len(taken)
    return EmbeddedSplit(*found)


@dataclass(frozen=True)
class _Graph:
    model: Path
    outputs: tuple[str, ...]
    threads: int
    device: Device

    def embed(
        self,
        images: ImageList,
        pixels: Pixels,
        rows: NDArray[np.int64],
        transform: Transform | None,
        on_progress: OnProgress,
    ) -> EmbeddedImages:
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.outputs}
        done = 0
        for batch in run_graph(
            self.model, self.outputs, _views(pixels, rows, transform), threads=self.threads, device=self.device
        ):
            for name, values in zip(self.outputs, batch, strict=True):
                found[name].append(values)
            done += len(batch[0])
            on_progress(done, len(rows))
        whole = {name: np.concatenate(values) if values else None for name, values in found.items()}
        logits = whole[LOGITS]
        if logits is None:
            logits = np.zeros((0, 0), np.float32)
        return EmbeddedImages(images, rows, logits, whole.get(EMBEDDING))


def _views(pixels: Pixels, rows: NDArray[np.int64], transform: Transform | None) -> Iterator[Tensor]:
    for row in rows.tolist():
        image = torch.from_numpy(pixels[row].copy())
        yield image if transform is None else transform(image.permute(2, 0, 1)).permute(1, 2, 0)


def _rows(images: int, numbers: int) -> NDArray[np.int64]:
    """Evenly over the classes, for images are in their order."""
    most = max(1, MOST_BYTES // (4 * max(1, numbers)))
    return np.arange(0, images, max(1, math.ceil(images / most)), dtype=np.int64)


def _after(on_progress: OnProgress | None, done: int, total: int) -> OnProgress:
    return lambda now, _: on_progress(done + now, total) if on_progress else None


def _linear_head(network: nn.Module) -> nn.Module | None:
    """The network where it is a head of one linear layer, with or without dropout before it."""
    last = network[-1] if isinstance(network, nn.Sequential) and len(network) == 2 else network
    return network if isinstance(last, nn.Linear) else None


def _by_features(images: ImageList, features: EvalInputs | None, head: nn.Module) -> EmbeddedImages:
    rows = np.arange(len(images), dtype=np.int64)
    if not isinstance(features, EvalFeatures) or not len(images):
        return EmbeddedImages(images, rows, np.zeros((0, 0), np.float32), None)
    found = features.features.cpu()
    return EmbeddedImages(images, rows, evaluate(head, EvalFeatures(found)), found.numpy())
