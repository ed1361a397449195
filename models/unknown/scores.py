"""How foreign an image is to a network, by what the network gives for it. Knows no torch and no files.

Each score is higher the more foreign an image is; what a score of one kind means, another's does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from models.spec import EMBEDDING, LOGITS

# Of two that separate alike the first is taken.
Method = Literal["mahalanobis", "nearest", "gen"]
METHODS: tuple[Method, ...] = get_args(Method)

Rows = NDArray[np.float32]

# Of the paper: of many classes the hundred most probable count.
GEN_GAMMA, GEN_CLASSES = 0.1, 100


class Score(Protocol):
    """`output` of the graph, float32 [n, ...], to scores, float32 [n]; `arrays` are all that it was fitted to."""

    method: ClassVar[Method]
    output: ClassVar[str]

    @property
    def arrays(self) -> Mapping[str, NDArray[np.floating]]: ...

    def __call__(self, values: Rows) -> Rows: ...


@dataclass(frozen=True)
class GeneralisedEntropy:
    """GEN (Liu, Lochman and Zach, CVPR 2023): how far the probabilities are from a decided answer.

    Reads logits, float32 [n, classes], alone, so it needs no fitting and knows only of what confuses classes.
    """

    method: ClassVar[Method] = "gen"
    output: ClassVar[str] = LOGITS

    @property
    def arrays(self) -> Mapping[str, NDArray[np.floating]]:
        return {}

    def __call__(self, values: Rows) -> Rows:
        exponents = np.exp(values - values.max(axis=1, keepdims=True))
        shares = exponents / exponents.sum(axis=1, keepdims=True)
        if shares.shape[1] > GEN_CLASSES:
            shares = np.partition(shares, -GEN_CLASSES, axis=1)[:, -GEN_CLASSES:]
        return np.asarray(((shares * (1 - shares)) ** GEN_GAMMA).sum(axis=1), np.float32)


@dataclass(frozen=True)
class Mahalanobis:
    """The squared Mahalanobis distance of a normalised embedding z to the nearest class (Lee et al., 2018).

    The precision matrix is `scale` times the identity less the square of `directions`, float32 [D, k]; for the
    mean m of each class `linear`, float32 [D, classes], is -2 P m and `offsets`, float32 [classes], m' P m. One
    product with a thin matrix gives z'Pz - 2 z'Pm + m'Pm.
    """

    method: ClassVar[Method] = "mahalanobis"
    output: ClassVar[str] = EMBEDDING

    scale: float
    directions: Rows
    linear: Rows
    offsets: Rows

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", np.hstack([self.directions, self.linear]))

    @property
    def arrays(self) -> Mapping[str, NDArray[np.floating]]:
        return {
            "scale": np.array([self.scale]),
            "directions": self.directions,
            "linear": self.linear,
            "offsets": self.offsets,
        }

    def __call__(self, values: Rows) -> Rows:
        product: Rows = self._product  # type: ignore[attr-defined]
        found = normalised(values) @ product
        along = found[:, : self.directions.shape[1]]
        nearest = (found[:, self.directions.shape[1] :] + self.offsets).min(axis=1)
        return np.asarray(self.scale - np.einsum("nk,nk->n", along, along) + nearest, np.float32)


@dataclass(frozen=True)
class NearestNeighbour:
    """One less the cosine to the nearest of `rows`, float16 [m, D], normalised (Sun et al., ICML 2022, k = 1)."""

    method: ClassVar[Method] = "nearest"
    output: ClassVar[str] = EMBEDDING

    rows: NDArray[np.float16]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_columns", np.ascontiguousarray(self.rows.T, np.float32))

    @property
    def arrays(self) -> Mapping[str, NDArray[np.floating]]:
        return {"rows": self.rows}

    def __call__(self, values: Rows) -> Rows:
        columns: Rows = self._columns  # type: ignore[attr-defined]
        return np.asarray(1 - (normalised(values) @ columns).max(axis=1), np.float32)


def normalised(values: Rows) -> Rows:
    """Rows of length 1; one of zeros stays as it is."""
    lengths = np.sqrt(np.einsum("nd,nd->n", values, values))
    return np.asarray(values / np.maximum(lengths, 1e-12)[:, None], np.float32)
