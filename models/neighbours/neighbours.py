"""The images that a version was taught, by what it makes of them: the nearest to another one. Knows no torch.

An artifact keeps of each image its embedding, its sha256 and its class: no picture and no file's name, which are
the dataset's and go with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.artifact import read_manifest, verify
from models.errors import ArtifactCorrupt, OutputUnavailable, without_folder
from models.neighbours import exact, graph

# The name of the finding that says of a version whether it has them.
FINDING = "neighbours"
IMAGES = "neighbours-images.npz"
# Of more images a graph leads to the nearest; up to as many each is looked at.
EXACT_UP_TO = 100_000


class Index(Protocol):
    """Vectors of length 1, to be searched by the cosine distance, from 0 to 2."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def nearest(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Neighbour:
    """`distance` is the cosine distance of the embeddings: 0 the same direction, 1 nothing in common."""

    sha256: str
    label: str
    distance: float


@dataclass(frozen=True)
class Neighbours:
    """`sha256` is uint8 `[n, 32]`, `classes` int32 `[n]` in the order of `labels`; rows are those of the index."""

    index: Index
    sha256: NDArray[np.uint8]
    classes: NDArray[np.int32]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def memory_bytes(self) -> int:
        """Without the index, which is mapped: the machine takes its pages back when it needs them."""
        return self.sha256.nbytes + self.classes.nbytes

    def nearest(self, embeddings: NDArray[np.float32], count: int) -> list[list[Neighbour]]:
        """For each of float32 `[m, ...]`, as the graph gives them, the nearest `count` images, nearest first."""
        queries = exact.of_length_one(embeddings.reshape(len(embeddings), -1))
        rows, distances = self.index.nearest(queries, min(count, len(self)))
        return [
            [self._neighbour(row, distance) for row, distance in zip(*pair, strict=True)]
            for pair in zip(rows.tolist(), distances.clip(0, 2).tolist(), strict=True)
        ]

    def _neighbour(self, row: int, distance: float) -> Neighbour:
        return Neighbour(self.sha256[row].tobytes().hex(), self.labels[self.classes[row]], round(distance, 5))


def write_neighbours(
    folder: Path,
    embeddings: NDArray[np.float32],
    sha256: Sequence[str],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    *,
    threads: int = 1,
    exact_up_to: int = EXACT_UP_TO,
) -> Neighbours:
    """Write the files of the images with these `embeddings`, `[n, D]`; one that is there twice is kept once.

    Raises OSError on a full disk.
    """
    first = dict(zip(reversed(sha256), range(len(sha256) - 1, -1, -1), strict=True))
    rows = np.array(sorted(first.values()), dtype=np.int64)
    images = np.frombuffer(bytes.fromhex("".join(sha256[row] for row in rows)), np.uint8).reshape(-1, 32)
    classes = targets[rows].astype(np.int32)
    np.savez(folder / IMAGES, sha256=images, classes=classes)
    if len(rows) > exact_up_to:
        index: Index = graph.write_graph(folder, embeddings, rows, threads)
    else:
        index = exact.write_exact(folder, embeddings, rows)
    return Neighbours(index, images, classes, tuple(labels))


def open_neighbours(folder: Path, numbers: int) -> Neighbours:
    """Those of an artifact whose embeddings have so many `numbers`.

    Raises OutputUnavailable where it has none, ArtifactCorrupt where a file is not the published one, or does not
    fit the others.
    """
    manifest = read_manifest(folder)
    file = next((file for file in (exact.FILE, graph.FILE) if file in manifest.files), None)
    if file is None:
        raise OutputUnavailable(f"this version of {manifest.model} has no embeddings of training images")
    verify(folder, [IMAGES, file])
    try:
        with np.load(folder / IMAGES, allow_pickle=False) as arrays:
            sha256, classes = arrays["sha256"], arrays["classes"]
    except (ValueError, KeyError, OSError, BadZipFile) as exc:
        raise ArtifactCorrupt(f"{IMAGES} cannot be read: {without_folder(exc, folder / IMAGES)}") from exc
    index: Index = exact.open_exact(folder) if file == exact.FILE else graph.open_graph(folder)
    found = (sha256.dtype.str, sha256.shape, classes.dtype.str, classes.shape, index.shape)
    images = len(classes)
    if found != ("|u1", (images, 32), "<i4", (images,), (images, numbers)) or not images:
        raise ArtifactCorrupt(f"{IMAGES} and {file} do not fit the model's embeddings of {numbers} numbers")
    if classes.min() < 0 or classes.max() >= len(manifest.labels):
        raise ArtifactCorrupt(f"{IMAGES} names classes beyond the {len(manifest.labels)} of the manifest")
    return Neighbours(index, sha256, classes, manifest.labels)
