"""The nearest of very many vectors by a graph that leads to them (HNSW, arXiv 1603.09320). Knows no torch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactCorrupt, without_folder
from models.neighbours.exact import of_length_one

FILE = "neighbours.usearch"
# Vectors that are added at once, so that not all are in memory a second time.
ROWS = 8192
# How many candidates are kept while a vector is added, and while one is looked for. With usearch's own 64 for the
# search, one query in 200 among clustered vectors ended in another cluster than its nearest.
EXPANSION_ADD, EXPANSION_SEARCH = 64, 256


class GraphIndex:
    """Of a million vectors it looks at some hundred; now and then it misses one of the nearest.

    `index` is usearch's, whose keys are rows. That is imported where such an index is written or opened.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._index), int(self._index.ndim)

    def nearest(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `ExactIndex.nearest`, but for the nearest that it misses."""
        found = self._index.search(queries, min(count, len(self._index)), threads=1)
        # Of a single query it gives a row, of several a table.
        shape = (len(queries), -1)
        return found.keys.reshape(shape).astype(np.int64), found.distances.reshape(shape).astype(np.float32)


def write_graph(folder: Path, vectors: NDArray[np.float32], rows: NDArray[np.int64], threads: int) -> GraphIndex:
    """The index of `vectors[rows]`, in `FILE`. Raises OSError on a full disk."""
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="cos", dtype="f16", expansion_add=EXPANSION_ADD)
    for start in range(0, len(rows), ROWS):
        keys = np.arange(start, min(start + ROWS, len(rows)), dtype=np.uint64)
        index.add(keys, of_length_one(vectors[rows[start : start + ROWS]]), threads=threads)
    try:
        index.save(str(folder / FILE))
    except RuntimeError as exc:
        raise OSError(f"{FILE} cannot be written: {without_folder(exc, folder / FILE)}") from exc
    return open_graph(folder)


def open_graph(folder: Path) -> GraphIndex:
    """Raises ArtifactCorrupt where the file is none. It is mapped, and read as far as the machine has room."""
    from usearch.index import Index

    try:
        index: Any = Index.restore(str(folder / FILE), view=True)
    except (RuntimeError, ValueError, OSError) as exc:
        raise ArtifactCorrupt(f"{FILE} cannot be read: {without_folder(exc, folder / FILE)}") from exc
    if index is None:
        raise ArtifactCorrupt(f"{FILE} is no index of this release's usearch")
    # The file does not keep it.
    index.expansion_search = EXPANSION_SEARCH
    return GraphIndex(index)
