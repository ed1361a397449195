"""Which images train, validate and test. Knows no pixels and no network."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.dataset.draw import Draw
from models.dataset.folder import DatasetFolder
from models.dataset.sample import SPLITS, Sample, SplitName
from models.training.errors import UntrainableDataset
from models.training.seeds import HIGHEST_SEED, derive_seed

GIVEN = "given"
_DRAWN = re.compile(r"stratified, (\S+) of each class, seed (\d+)")


@dataclass(frozen=True)
class ImageList:
    """The images of one split: files, class indices (int64 [n]) and the names that users know them by."""

    paths: tuple[Path, ...]
    targets: NDArray[np.int64]
    names: tuple[str, ...]
    sha256: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def content_hash(self) -> str:
        return hashlib.sha256("\n".join(self.sha256).encode()).hexdigest()


NO_IMAGES = ImageList((), np.zeros(0, np.int64), (), ())
# The class index of an image that shows none.
NO_CLASS = -1


@dataclass(frozen=True)
class ForeignImages:
    """Images that show none of the classes: those of `train` may be fitted to, the others measure."""

    train: ImageList = NO_IMAGES
    validation: ImageList = NO_IMAGES
    test: ImageList = NO_IMAGES

    def __len__(self) -> int:
        return len(self.train) + len(self.validation) + len(self.test)


@dataclass(frozen=True)
class Split:
    """Labels in the order of the model's outputs, and the images of each part; `origin`: who made the split.

    `foreign` are no part of them.
    """

    labels: tuple[str, ...]
    train: ImageList
    validation: ImageList
    test: ImageList
    origin: str
    foreign: ForeignImages = ForeignImages()

    def describe(self) -> dict[str, object]:
        """For manifests: how many images of each class train, validate and test."""
        return {
            "origin": self.origin,
            **{
                name: {label: int(np.sum(part.targets == i)) for i, label in enumerate(self.labels)}
                for name, part in (("train", self.train), ("validation", self.validation), ("test", self.test))
            },
            **({"none": self._count_foreign()} if len(self.foreign) else {}),
        }

    def _count_foreign(self) -> dict[str, int]:
        foreign = self.foreign
        return {"train": len(foreign.train), "validation": len(foreign.validation), "test": len(foreign.test)}


def split_dataset(dataset: DatasetFolder, *, fraction: float, seed: int) -> Split:
    """The dataset's own split where it has one, else a stratified one: `fraction` of each class validates.

    An image that occurs twice under one label stays on one side, for the draw goes by content. In a revision an
    image stays on the side that it had before. Raises UntrainableDataset, naming the class, when there is nothing
    to learn from or nothing to validate on.
    """
    if len(dataset.labels) < 2:
        raise UntrainableDataset(f"the dataset has {len(dataset.labels)} class(es), expected at least 2")
    given = Counter(sample.split for sample in dataset.samples if sample.label in dataset.labels)
    sides: dict[SplitName, list[Sample]] = {"train": [], "val": [], "test": []}
    if given["val"]:
        origin = GIVEN
        for sample in dataset.samples:
            sides[sample.split or "train"].append(sample)
    else:
        origin = f"stratified, {float(fraction)!r} of each class, seed {seed}"
        drawn = [s for s in dataset.samples if s.split != "test"]
        if dataset.draw is None:
            held_out = _held_out(drawn, fraction, seed, dataset.labels)
        else:
            held_out = _still_held_out(drawn, dataset.draw, fraction, seed, dataset.labels)
        for sample in dataset.samples:
            side: SplitName = "val" if (sample.label, sample.sha256) in held_out else "train"
            sides["test" if sample.split == "test" else side].append(sample)
    classes = set(dataset.labels)

    def part(side: SplitName, of_classes: bool = True) -> ImageList:
        return _listed(dataset, [s for s in sides[side] if (s.label in classes) == of_classes])

    train, validation, test = (part(side) for side in SPLITS)
    foreign = ForeignImages(*(part(side, of_classes=False) for side in SPLITS))
    split = Split(dataset.labels, train, validation, test, origin, foreign)
    _check(split)
    return split


def split_again(dataset: DatasetFolder, origin: str) -> Split:
    """The split of an earlier training on the same dataset, by the `origin` that it had.

    Raises UntrainableDataset, also for an origin that says nothing to this release.
    """
    if origin == GIVEN:
        return split_dataset(dataset, fraction=0.2, seed=0)
    drawn = _DRAWN.fullmatch(origin)
    if drawn is None:
        raise UntrainableDataset(f"nobody knows how the split {origin!r} was made")
    return split_dataset(dataset, fraction=float(drawn[1]), seed=int(drawn[2]))


def _held_out(
    samples: Sequence[Sample], fraction: float, seed: int, classes: Sequence[str]
) -> set[tuple[str, str]]:
    by_label: dict[str, set[str]] = {}
    for sample in samples:
        by_label.setdefault(sample.label, set()).add(sample.sha256)
    held: set[tuple[str, str]] = set()
    for label, contents in by_label.items():
        if len(contents) < 2:
            if label in classes:
                raise _too_few(label)
            continue
        held.update((label, sha256) for sha256 in _first_drawn(contents, fraction, seed))
    return held


def _first_drawn(contents: Collection[str], fraction: float, seed: int) -> list[str]:
    count = min(max(1, round(len(contents) * fraction)), len(contents) - 1)
    return sorted(contents, key=lambda sha256: _rank(sha256, seed))[:count]


def _rank(sha256: str, seed: int) -> int:
    return derive_seed("validation", seed, sha256)


def _still_held_out(
    samples: Sequence[Sample], draw: Draw, fraction: float, seed: int, classes: Sequence[str]
) -> set[tuple[str, str]]:
    """Of a revision: what its family's first held out, by the labels of then, and of what came later each image
    whose own hash says so. A class that would have none on one side is given its next."""
    by_first_label: dict[str, set[str]] = {}
    for sha256, label in draw.first_images(samples).items():
        by_first_label.setdefault(label, set()).add(sha256)
    held = {
        sha256
        for contents in by_first_label.values()
        if len(contents) > 1
        for sha256 in _first_drawn(contents, fraction, seed)
    }
    held |= {sha256 for sha256 in draw.later if _rank(sha256, seed) < fraction * HIGHEST_SEED}
    by_label: dict[str, list[str]] = {}
    for sample in samples:
        by_label.setdefault(sample.label, []).append(sample.sha256)
    for label, contents in by_label.items():
        if len(contents) < 2:
            if label in classes:
                raise _too_few(label)
            continue
        ranked = sorted(contents, key=lambda sha256: _rank(sha256, seed))
        if held.isdisjoint(ranked):
            held.add(ranked[0])
        elif held.issuperset(ranked):
            held.remove(ranked[-1])
    return {(sample.label, sample.sha256) for sample in samples if sample.sha256 in held}


def _too_few(label: str) -> UntrainableDataset:
    return UntrainableDataset(
        f"class {label!r} has one image; at least 2 are needed, one to learn from and one to validate on"
    )


def _listed(dataset: DatasetFolder, samples: Sequence[Sample]) -> ImageList:
    index = {label: i for i, label in enumerate(dataset.labels)}
    ordered = sorted(samples, key=lambda s: (index.get(s.label, NO_CLASS), s.sha256, s.name))
    return ImageList(
        tuple(dataset.path_of(s) for s in ordered),
        np.array([index.get(s.label, NO_CLASS) for s in ordered], dtype=np.int64),
        tuple(s.name for s in ordered),
        tuple(s.sha256 for s in ordered),
    )


def _check(split: Split) -> None:
    counts = np.bincount(split.train.targets, minlength=len(split.labels))
    empty = [label for label, count in zip(split.labels, counts, strict=True) if not count]
    if empty:
        raise UntrainableDataset(
            f"no training image of {', '.join(map(repr, empty))}; every class needs at least one"
        )
    if not len(split.validation):
        raise UntrainableDataset(
            "no image to validate on: give the dataset a `val` split or more images per class"
        )
