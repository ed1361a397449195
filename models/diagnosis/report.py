"""What was found out about a dataset's images, as one document."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.diagnosis.images import NamedImage

# Of each kind that is found.
MOST_LISTED = 200
# Of a group of near-duplicates.
MOST_OF_A_GROUP = 20
MOST_LABELS = 50


@dataclass(frozen=True)
class NamedImages:
    """`total` were found among `checked` images, `entries` are the first of them; `reason` says why none were
    looked for."""

    total: int
    checked: int
    entries: tuple[NamedImage, ...]
    reason: str | None = None

    def to_dict(self, dataset: str | None) -> dict[str, Any]:
        return {**_counted(self), "entries": [entry.to_dict(dataset) for entry in self.entries]}


@dataclass(frozen=True)
class DuplicateGroup:
    """`size` images that show the same, the first of them; `similarity` is the least cosine of a pair of them."""

    images: tuple[NamedImage, ...]
    size: int
    similarity: float


@dataclass(frozen=True)
class DuplicateGroups:
    """`total` images could be left out without losing a picture; they are in `groups` groups."""

    total: int
    groups: int
    checked: int
    entries: tuple[DuplicateGroup, ...]
    reason: str | None = None

    def to_dict(self, dataset: str | None) -> dict[str, Any]:
        entries = [
            {
                "similarity": group.similarity,
                "size": group.size,
                "images": [image.to_dict(dataset) for image in group.images],
            }
            for group in self.entries
        ]
        return {**_counted(self), "groups": self.groups, "entries": entries}


@dataclass(frozen=True)
class OverlappingPair:
    """Two classes of `images` images, of which `confused` are taken for the other one; see
    `models.diagnosis.labels.Overlap`."""

    labels: tuple[str, str]
    images: int
    confused: int
    separation: float


@dataclass(frozen=True)
class OverlappingClasses:
    """`total` pairs of classes that are not told apart, by the `checked` images."""

    total: int
    checked: int
    entries: tuple[OverlappingPair, ...]
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        entries = [{**asdict(entry), "labels": list(entry.labels)} for entry in self.entries]
        return {**_counted(self), "entries": entries}


@dataclass(frozen=True)
class Diagnosis:
    """`few` counts the images of classes with too few of them to judge their labels by. `warnings` are what a
    reader must know."""

    images: int
    classes: int
    wrong_labels: NamedImages
    outliers: NamedImages
    near_duplicates: DuplicateGroups
    without_influence: NamedImages
    overlapping_classes: OverlappingClasses
    few: Mapping[str, int]
    warnings: Sequence[str] = ()

    @property
    def counts(self) -> dict[str, int]:
        return {
            "wrong_labels": self.wrong_labels.total,
            "outliers": self.outliers.total,
            "near_duplicates": self.near_duplicates.total,
            "without_influence": self.without_influence.total,
            "overlapping_classes": self.overlapping_classes.total,
        }

    def to_dict(self, dataset: str | None = None) -> dict[str, Any]:
        """With addresses of thumbnails where the images are those of an uploaded `dataset`."""
        return {
            "images": self.images,
            "classes": self.classes,
            "warnings": list(self.warnings),
            "few_images": dict(list(self.few.items())[:MOST_LABELS]),
            "wrong_labels": self.wrong_labels.to_dict(dataset),
            "outliers": self.outliers.to_dict(dataset),
            "near_duplicates": self.near_duplicates.to_dict(dataset),
            "without_influence": self.without_influence.to_dict(dataset),
            "overlapping_classes": self.overlapping_classes.to_dict(),
        }


def _counted(found: NamedImages | DuplicateGroups | OverlappingClasses) -> dict[str, Any]:
    return {"total": found.total, "checked": found.checked, "reason": found.reason}
