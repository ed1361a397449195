"""A dataset's images looked at one by one and beside each other: what is wrong, and what could be left out.

Reads embeddings and what is said of images by heads that did not learn from them. Knows no network and no job.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.diagnosis.duplicates import find_duplicates
from models.diagnosis.held_out import FEWEST_OF_A_CLASS, HeldOut
from models.diagnosis.images import DiagnosedImages, PixelsOf
from models.diagnosis.influence import find_without_influence
from models.diagnosis.labels import find_overlaps, find_wrong_labels
from models.diagnosis.neighbours import Neighbours, find_neighbours, multiply_adds
from models.diagnosis.outliers import find_outliers
from models.diagnosis.report import (
    MOST_LISTED,
    MOST_OF_A_GROUP,
    Diagnosis,
    DuplicateGroup,
    DuplicateGroups,
    NamedImages,
    OverlappingClasses,
    OverlappingPair,
)
from models.training.progress import OnProgress


@dataclass(frozen=True)
class NotHeldOut:
    """Why nobody can say what images are taken for by heads that did not learn from them."""

    reason: str


def diagnose(
    images: DiagnosedImages,
    embedding: NDArray[np.float32] | None,
    held_out: HeldOut | NotHeldOut,
    pixels: PixelsOf,
    *,
    most_multiply_adds: float,
    warnings: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> Diagnosis:
    """`embedding` is float32 [n, D], None where there is none. Images are compared unless that would take more
    than `most_multiply_adds`; `on_progress(done, total)` counts those that were."""
    neighbours = _neighbours(images, embedding, most_multiply_adds, on_progress)
    is_held_out = isinstance(held_out, HeldOut)
    named = set(held_out.classes.tolist()) if isinstance(held_out, HeldOut) else set(range(len(images.labels)))
    counts = Counter(images.targets.tolist())
    return Diagnosis(
        images=len(images),
        classes=len(images.labels),
        wrong_labels=_wrong_labels(images, held_out),
        outliers=_outliers(images, neighbours),
        near_duplicates=_duplicates(images, neighbours, pixels),
        without_influence=_without_influence(images, held_out),
        overlapping_classes=_overlaps(images, held_out),
        few={
            label: counts[target]
            for target, label in enumerate(images.labels)
            if is_held_out and target not in named and counts[target]
        },
        warnings=tuple(warnings),
    )


def not_enough_classes(classes: int) -> NotHeldOut:
    return NotHeldOut(
        f"at least two classes with {FEWEST_OF_A_CLASS} different images each are needed to judge labels by; "
        f"there {'is' if classes == 1 else 'are'} {classes or 'none'}"
    )


def _neighbours(
    images: DiagnosedImages,
    embedding: NDArray[np.float32] | None,
    most: float,
    on_progress: OnProgress | None,
) -> Neighbours | str:
    """Or why there are none."""
    if embedding is None:
        return "the version gives no embedding to compare images by"
    if not np.isfinite(embedding).all():
        return "the version gives embeddings that are not finite"
    if multiply_adds(images.targets, embedding.shape[1]) > most:
        return f"there are too many images of a class ({len(images)} in all) to compare each with each here"
    return find_neighbours(embedding, images.targets, on_progress)


def _wrong_labels(images: DiagnosedImages, held_out: HeldOut | NotHeldOut) -> NamedImages:
    if isinstance(held_out, NotHeldOut):
        return NamedImages(0, 0, (), held_out.reason)
    found = find_wrong_labels(held_out)
    of_label, best = held_out.of_label, held_out.best
    entries = []
    for row, is_probable in zip(found.rows[:MOST_LISTED].tolist(), found.is_probable.tolist(), strict=False):
        other = _best_other(held_out, row)
        suggested = int(best[row]) if best[row] != held_out.targets[row] else other
        entries.append(
            images.named(
                int(held_out.rows[row]),
                _rounded(of_label[row]),
                int(held_out.classes[suggested]),
                suggested_probability=_rounded(held_out.probabilities[row, suggested]),
                is_probable=is_probable,
            )
        )
    return NamedImages(int(found.is_probable.sum()), len(held_out), tuple(entries))


def _best_other(held_out: HeldOut, row: int) -> int:
    """The most probable class but its own."""
    probabilities = held_out.probabilities[row].copy()
    probabilities[held_out.targets[row]] = -1
    return int(probabilities.argmax())


def _outliers(images: DiagnosedImages, neighbours: Neighbours | str) -> NamedImages:
    if isinstance(neighbours, str):
        return NamedImages(0, 0, (), neighbours)
    found = find_outliers(neighbours, images.targets)
    named = zip(found.places[:MOST_LISTED].tolist(), found.scores.tolist(), strict=False)
    entries = tuple(images.named(place, round(score, 2)) for place, score in named)
    return NamedImages(len(found.places), found.checked, entries)


def _duplicates(images: DiagnosedImages, neighbours: Neighbours | str, pixels: PixelsOf) -> DuplicateGroups:
    if isinstance(neighbours, str):
        return DuplicateGroups(0, 0, 0, (), neighbours)
    groups = find_duplicates(neighbours, images.targets, pixels)
    entries = tuple(
        DuplicateGroup(
            tuple(images.named(place, _rounded(group.similarity)) for place in group.places[:MOST_OF_A_GROUP]),
            len(group.places),
            _rounded(group.similarity),
        )
        for group in groups[:MOST_LISTED]
    )
    return DuplicateGroups(sum(len(group.places) - 1 for group in groups), len(groups), len(images), entries)


def _without_influence(images: DiagnosedImages, held_out: HeldOut | NotHeldOut) -> NamedImages:
    if isinstance(held_out, NotHeldOut):
        return NamedImages(0, 0, (), held_out.reason)
    found = find_without_influence(held_out)
    named = zip(found.rows[:MOST_LISTED].tolist(), found.errors.tolist(), strict=False)
    entries = tuple(images.named(int(held_out.rows[row]), round(error, 6)) for row, error in named)
    return NamedImages(len(found.rows), len(held_out), entries)


def _overlaps(images: DiagnosedImages, held_out: HeldOut | NotHeldOut) -> OverlappingClasses:
    if isinstance(held_out, NotHeldOut):
        return OverlappingClasses(0, 0, (), held_out.reason)
    found = find_overlaps(held_out)

    def label(column: int) -> str:
        return images.labels[int(held_out.classes[column])]

    entries = tuple(
        OverlappingPair(
            (label(pair.first), label(pair.second)), pair.images, pair.confused, _rounded(pair.separation)
        )
        for pair in found
    )
    return OverlappingClasses(len(entries), len(held_out), entries)


def _rounded(value: float) -> float:
    return round(float(value), 4)
