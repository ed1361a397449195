"""What a fine-tune finds out for `/similar`: files that are searched, and how often the nearest have the class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.colours import LABELS

from models.findings.neighbours import share_by_majority
from models.neighbours.neighbours import write_neighbours


@pytest.mark.parametrize(
    ("taught", "expected"),
    [
        # The five nearest of (1, 0), nearest first, and which label is theirs.
        ([0, 0, 0, 1, 1], 0),
        ([1, 0, 0, 0, 1], 0),
        ([1, 1, 0, 0, 2], 1),
        ([2, 1, 1, 0, 0], 1),
        ([2, 1, 0], 2),
    ],
)
def test_the_label_of_most_counts_and_of_equally_many_the_nearers(
    tmp_path: Path, taught: Sequence[int], expected: int
) -> None:
    angles = np.arange(len(taught)) * 0.1
    embeddings: NDArray[np.float32] = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    names = [f"{number:064x}" for number in range(len(taught))]
    neighbours = write_neighbours(tmp_path, embeddings, names, np.array(taught), LABELS)
    asked = np.array([[1, 0]], np.float32)
    for label in LABELS:
        share = share_by_majority(neighbours, asked, [label])
        assert share == (1.0 if label == LABELS[expected] else 0.0)
