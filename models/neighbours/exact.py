"""The nearest of up to some hundred thousand vectors by looking at every one. Knows no torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactCorrupt, without_folder

FILE = "neighbours.npy"
# Vectors of length 1 as whole numbers: half of float32's bytes, and converted eight times as quickly as float16's.
SCALE = 32767
# As many rows as stay in a core's second cache while they are converted and multiplied.
ROWS = 512


class ExactIndex:
    """`vectors` are int16 `[n, D]`, of length `SCALE` each. A mapped file is read as far as there is room."""

    def __init__(self, vectors: NDArray[np.int16]) -> None:
        self._vectors = vectors

    @property
    def shape(self) -> tuple[int, int]:
        rows, numbers = self._vectors.shape
        return rows, numbers

    def nearest(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows of the nearest `count` vectors, nearest first, and their cosine distances; both `[m, count]`.

        `queries` are float32 `[m, D]` of length 1. Equally near ones are in the order of their rows. One thread
        does it: BLAS's matrix products would start theirs, which take the cores that others decode on.
        """
        rows, numbers = self._vectors.shape
        scaled = queries / np.float32(SCALE)
        cosines = np.empty((len(queries), rows), np.float32)
        converted = np.empty((min(ROWS, rows), numbers), np.float32)
        for start in range(0, rows, ROWS):
            part = self._vectors[start : start + ROWS]
            vectors = converted[: len(part)]
            vectors[...] = part
            for query, found in zip(scaled, cosines, strict=True):
                np.vecdot(vectors, query, out=found[start : start + len(part)])
        best = np.stack([_highest(found, count) for found in cosines])
        return best, 1 - np.take_along_axis(cosines, best, axis=1)


def write_exact(folder: Path, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> ExactIndex:
    """The index of `vectors[rows]`, in `FILE`. Raises OSError on a full disk."""
    shape = (len(rows), vectors.shape[1])
    mapped = np.lib.format.open_memmap(folder / FILE, mode="w+", dtype=np.int16, shape=shape)
    for start in range(0, len(rows), ROWS):
        mapped[start : start + ROWS] = np.rint(of_length_one(vectors[rows[start : start + ROWS]]) * SCALE)
    mapped.flush()
    return open_exact(folder)


def open_exact(folder: Path) -> ExactIndex:
    """Raises ArtifactCorrupt where the file is none."""
    try:
        vectors = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as exc:
        raise ArtifactCorrupt(f"{FILE} cannot be read: {without_folder(exc, folder / FILE)}") from exc
    if vectors.dtype != np.int16 or vectors.ndim != 2:
        raise ArtifactCorrupt(f"{FILE} is {vectors.dtype} {list(vectors.shape)}; expected int16 [images, numbers]")
    return ExactIndex(vectors)


def of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of no length, or with numbers that are none, become zeros, which are as far from all as can be."""
    finite = np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)
    # In float64: the squares of large numbers are none in float32.
    lengths = np.sqrt(np.square(finite, dtype=np.float64).sum(axis=1, keepdims=True))
    directions: NDArray[np.float32] = (finite / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return directions


def _highest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Places of the highest, highest first, equal ones in their order."""
    if count < len(values):
        border = np.partition(values, len(values) - count)[len(values) - count]
        above, equal = np.flatnonzero(values > border), np.flatnonzero(values == border)
        places = np.concatenate([above, equal[: count - len(above)]])
    else:
        places = np.arange(len(values))
    return places[np.lexsort((places, -values[places]))]
