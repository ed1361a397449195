"""What a linear head says of images that it did not learn from: each image is left out once.

The head is the one that a fine-tune fits (`models.training.linear`), so what is found here is found with the same
eyes. Classes of which there are too few images take no part: nobody could tell their errors from their rarity.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.calibrate import fit_temperature
from models.training.linear import AFFORDABLE_BYTES, AFFORDABLE_FOLDS, FOLDS, L2_GRID, fit_head
from models.training.progress import OnProgress

# Distinct images of a class, so that each fold has one.
FEWEST_OF_A_CLASS = FOLDS
# For features of variance 1: in the middle of those that found the most wrong labels (docs/decisions/0041).
MIDDLE_L2 = 1.0


@dataclass(frozen=True)
class HeldOut:
    """Probabilities of some classes for the images of these, float64 [m, k], calibrated; each row sums to 1.

    `rows` are the images' places, int64 [m], `classes` the class indices that the columns stand for, int64 [k].
    `targets` are the rows' columns, int64 [m].
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    targets: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def of_label(self) -> NDArray[np.float64]:
        """What each image's own class got, float64 [m]."""
        found: NDArray[np.float64] = self.probabilities[np.arange(len(self)), self.targets]
        return found

    @property
    def best(self) -> NDArray[np.int64]:
        """The column of each image's most probable class, int64 [m]."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    def followed_by(self, logits: Sequence[NDArray[np.float32]], targets: NDArray[np.int64]) -> "HeldOut":
        """With the images after these: calibrated logits float32 [.., k] of them; `targets` int64 [n] of all."""
        more = [_softmax(part) for part in logits]
        return HeldOut(np.arange(len(targets)), self.classes, targets, np.concatenate([self.probabilities, *more]))


def classes_with_enough(targets: NDArray[np.int64], groups: Sequence[str], classes: int) -> NDArray[np.int64]:
    """The class indices, int64 [k], that have at least `FEWEST_OF_A_CLASS` contents; `groups` name contents."""
    contents = {(target, group) for target, group in zip(targets.tolist(), groups, strict=True)}
    counts = np.bincount([target for target, _ in contents], minlength=classes)
    return np.flatnonzero(counts >= FEWEST_OF_A_CLASS)


def is_affordable(images: int, features: int, classes: int, most: float) -> bool:
    """Whether `most` multiply-adds, and gigabytes of memory, are enough for one look at all the images."""
    return images * features * classes <= most and 3 * 8 * images * features <= AFFORDABLE_BYTES


def leave_each_out(
    embedding: NDArray[np.float32],
    targets: NDArray[np.int64],
    groups: Sequence[str],
    classes: NDArray[np.int64],
    *,
    seed: int = 0,
    search: bool = True,
    on_progress: OnProgress | None = None,
) -> HeldOut:
    """Of the images of these `classes`, at least two, by heads on `embedding`, float32 [n, D].

    With `search` cross-validation chooses the penalty, unless there are so many numbers that it would take too
    long. `groups` name contents: identical images are left out together.
    """
    rows = np.flatnonzero(np.isin(targets, classes))
    columns = np.searchsorted(classes, targets[rows])
    size = len(rows) * embedding.shape[1] * len(classes)
    found = fit_head(
        torch.from_numpy(np.ascontiguousarray(embedding[rows]))[None],
        torch.from_numpy(columns),
        len(classes),
        seed=seed,
        groups=[groups[row] for row in rows.tolist()],
        l2_grid=L2_GRID if search and size <= AFFORDABLE_FOLDS else (MIDDLE_L2,),
        every_fold=True,
        on_progress=on_progress,
    )
    if found.held_out is None:
        raise RuntimeError("a class with too few images to be left out")
    return held_out_of(found.held_out.numpy(), rows, classes, columns)


def held_out_of(
    logits: NDArray[np.float32], rows: NDArray[np.int64], classes: NDArray[np.int64], columns: NDArray[np.int64]
) -> HeldOut:
    """Logits float32 [m, k] with the temperature that fits them best."""
    return HeldOut(rows, classes, columns, _softmax(logits / fit_temperature(logits, columns)))


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return found
