"""What is kept of many images instead of the images: how often each quantity fell into each of its bins.

Sketches add up in any order. Knows no numpy: gateways add and compare them as well.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class OtherBins(Exception):
    """What is no sketch, or counts other quantities or bins than what it is to be added to or compared with."""


@dataclass(frozen=True)
class Sketch:
    """Of so many `images`: `counts` has a row for each quantity, with how many of them fell into each bin.

    `embedding` is the sum of their folded embeddings (`models.drift.sketcher`); empty where the network has none.
    """

    images: int
    counts: tuple[tuple[int, ...], ...]
    embedding: tuple[float, ...] = ()

    def __add__(self, other: "Sketch") -> "Sketch":
        """Raises OtherBins."""
        if self.shape != other.shape:
            raise OtherBins(f"a sketch of {other.shape} cannot be added to one of {self.shape}")
        return Sketch(
            self.images + other.images,
            tuple(
                tuple(a + b for a, b in zip(mine, theirs, strict=True))
                for mine, theirs in zip(self.counts, other.counts, strict=True)
            ),
            tuple(round(a + b, 6) for a, b in zip(self.embedding, other.embedding, strict=True)),
        )

    @property
    def shape(self) -> tuple[tuple[int, ...], int]:
        """How many bins each quantity has, and how many numbers the embedding."""
        return tuple(map(len, self.counts)), len(self.embedding)

    @property
    def is_whole(self) -> bool:
        """Whether every quantity counts every image."""
        return (
            self.images >= 0
            and all(sum(row) == self.images and min(row, default=0) >= 0 for row in self.counts)
            and all(map(math.isfinite, self.embedding))
        )

    def to_dict(self) -> dict[str, Any]:
        return {"images": self.images, "counts": self.counts, "embedding": self.embedding}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sketch":
        """The reverse of `to_dict`, also after JSON had it. Raises OtherBins for what is no sketch."""
        try:
            found = cls(
                int(values["images"]),
                tuple(tuple(map(int, row)) for row in values["counts"]),
                tuple(map(float, values["embedding"])),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise OtherBins(f"no sketch: {type(error).__name__}: {error}") from error
        if not found.is_whole:
            raise OtherBins(f"no sketch of {found.images} images: its counts do not add up")
        return found


def total(sketches: Iterable[Sketch]) -> Sketch | None:
    """None where there are none. Raises OtherBins."""
    found: Sketch | None = None
    for sketch in sketches:
        found = sketch if found is None else found + sketch
    return found
