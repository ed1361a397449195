"""What served images are compared with: the same sketch of the validation images, and its bins.

A fine-tune writes it among the findings of a version's manifest. Knows no numpy.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

FINDING = "drift"
FEWEST_REFERENCE_IMAGES = 20
QuantityName = Literal["probability", "top_probability", "entropy"]


@dataclass(frozen=True)
class Quantity:
    """One number of each image, in bins: the first holds what is at most `edges[0]`, the last what is above all.

    `probability` is that of the class `label`, which stands at place `place` of the outputs; `entropy` is in nats.
    `counts` are those of the reference's images.
    """

    name: QuantityName
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    label: str | None = None
    place: int | None = None


@dataclass(frozen=True)
class EmbeddingReference:
    """Of the folded embeddings: their mean, and `spread`, the trace of their covariance.

    `directions` is how many of equal spread would do: the trace squared over that of the squared covariance.
    """

    mean: tuple[float, ...]
    spread: float
    directions: float


@dataclass(frozen=True)
class Reference:
    images: int
    quantities: tuple[Quantity, ...]
    embedding: EmbeddingReference | None = None

    @property
    def shape(self) -> tuple[tuple[int, ...], int]:
        """As a sketch's that can be compared with it."""
        return tuple(len(each.counts) for each in self.quantities), len(
            self.embedding.mean
        ) if self.embedding else 0

    @property
    def comparisons(self) -> int:
        """How many tests are made at once."""
        return len(self.quantities) + (self.embedding is not None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Reference":
        """The reverse of `to_dict`, also after JSON had it. Raises ValueError for what is no reference."""
        try:
            embedding = values["embedding"]
            found = cls(
                int(values["images"]),
                tuple(
                    Quantity(
                        each["name"],
                        tuple(map(float, each["edges"])),
                        tuple(map(int, each["counts"])),
                        each["label"],
                        each["place"],
                    )
                    for each in values["quantities"]
                ),
                embedding
                and EmbeddingReference(
                    tuple(map(float, embedding["mean"])),
                    float(embedding["spread"]),
                    float(embedding["directions"]),
                ),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"no reference: {type(error).__name__}: {error}") from error
        for each in found.quantities:
            if (
                each.name not in get_args(QuantityName)
                or len(each.counts) != len(each.edges) + 1
                or sum(each.counts) != found.images
                or any(low >= high for low, high in pairwise(each.edges))
                or (each.name == "probability") != (isinstance(each.place, int) and isinstance(each.label, str))
            ):
                raise ValueError(f"no reference: {each.name} of {each.label} has wrong bins")
        return found


def reference_of(manifest: Mapping[str, Any]) -> Reference | None:
    """What a version's manifest has; None where it has none, or none that can be read."""
    finding = (manifest.get("findings") or {}).get(FINDING) or {}
    try:
        return Reference.from_dict(finding["reference"])
    except (KeyError, TypeError, ValueError):
        return None
