"""The images that a diagnosis is of, and what is named of each that it finds."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.dataset.sample import SplitName

# An image's pixels, uint8 [height, width, 3], by its place.
PixelsOf = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True)
class DiagnosedImages:
    """`targets` are class indices into `labels`, int64 [n]; `paths` are what their sender called the images."""

    labels: tuple[str, ...]
    targets: NDArray[np.int64]
    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    splits: tuple[SplitName | None, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def named(self, place: int, score: float, suggested: int | None = None, **more: float | bool) -> "NamedImage":
        return NamedImage(
            place=place,
            path=self.paths[place],
            sha256=self.sha256[place],
            split=self.splits[place],
            label=self.labels[self.targets[place]],
            suggested=None if suggested is None else self.labels[suggested],
            score=score,
            more=more,
        )


@dataclass(frozen=True)
class NamedImage:
    """`place` is that among the images; `suggested` is the label that it may have instead of `label`.

    What `score` means, and what else there is in `more`, depends on what was found.
    """

    place: int
    path: str
    sha256: str
    split: SplitName | None
    label: str
    suggested: str | None
    score: float
    more: dict[str, float | bool]

    def to_dict(self, dataset: str | None = None) -> dict[str, Any]:
        """`thumbnail` is where the REST API has it, of an uploaded `dataset`."""
        found = asdict(self)
        del found["place"], found["more"]
        address = f"/v1/datasets/{dataset}/thumbnails/{self.sha256}" if dataset else None
        return {**found, **self.more, "thumbnail": address}
