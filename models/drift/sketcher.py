"""Sketches of what a network gives for images, made beside its answers. Knows no torch.

Of an embedding of length 1 each number is given a fixed sign and added to one of 64 sums (feature hashing,
arXiv 0902.2206): squared distances stay the same on average, and a sketch stays as small as its bins.
"""

import functools
import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.drift.reference import Quantity, QuantityName, Reference
from models.drift.sketch import Sketch
from models.spec import EMBEDDING, PROBABILITIES

FOLDED = 64
SMALLEST = np.float32(1e-12)
# Images that are counted together: behind an inference, with cold caches, a batch of 8 alone would take 0.2 ms.
AT_ONCE = 64

Floats = NDArray[np.float32]


def fold(embeddings: Floats) -> Floats:
    """Of float32 `[n, ...]` the folded embeddings, float32 `[n, 64]`; one of zeros stays zeros."""
    rows = embeddings.reshape(len(embeddings), -1)
    width = -(-rows.shape[1] // FOLDED) * FOLDED
    signed = np.zeros((len(rows), width), np.float32)
    np.multiply(rows, _signs(rows.shape[1]), out=signed[:, : rows.shape[1]])
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    folded: Floats = signed.reshape(len(rows), -1, FOLDED).sum(axis=1)
    folded /= np.maximum(lengths, SMALLEST)[:, None]
    return folded


def measure(probabilities: Floats, quantities: Sequence[tuple[QuantityName, int | None]]) -> Floats:
    """Of float32 `[n, classes]` the quantities, each with the place of its class, as float32 `[n, quantities]`."""
    columns = []
    for name, place in quantities:
        if name == "probability":
            columns.append(probabilities[:, place])
        elif name == "top_probability":
            columns.append(probabilities.max(axis=1))
        else:
            columns.append(-np.einsum("ij,ij->i", probabilities, np.log(np.maximum(probabilities, SMALLEST))))
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Bins:
    """Which bin each quantity of each image falls into, all quantities at once."""

    quantities: tuple[Quantity, ...]
    _edges: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        most = max((len(each.edges) for each in self.quantities), default=0)
        edges = np.full((len(self.quantities), most), np.inf)
        for row, each in zip(edges, self.quantities, strict=True):
            row[: len(each.edges)] = each.edges
        object.__setattr__(self, "_edges", edges)

    @property
    def most(self) -> int:
        """Bins of the quantity that has most."""
        return int(self._edges.shape[1]) + 1

    def count(self, measured: Floats) -> NDArray[np.int64]:
        """Of float32 `[n, quantities]`: how many fell into each bin, `[quantities, most bins]`."""
        quantities, bins = len(self._edges), self.most
        places = (measured[:, :, None] > self._edges).sum(axis=2) + bins * np.arange(quantities)
        return np.bincount(places.ravel(), minlength=quantities * bins).reshape(quantities, bins)


@dataclass
class Sketcher:
    """The sketch of what one loaded model has answered since the last that was taken; for any thread.

    At most one is taken in `interval_s` seconds. What the model answers last, before it is unloaded, is in none.
    """

    reference: Reference
    interval_s: float = 1.0
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _taken_at: float = field(default=-np.inf, init=False)

    def __post_init__(self) -> None:
        self._bins = Bins(self.reference.quantities)
        self._measured = [(each.name, each.place) for each in self.reference.quantities]
        self._clear()

    @property
    def outputs(self) -> tuple[str, ...]:
        """What `add` wants of the network."""
        return (PROBABILITIES, EMBEDDING) if self.reference.embedding else (PROBABILITIES,)

    def add(self, found: Mapping[str, Floats]) -> None:
        """What the network gives for n >= 1 images, by `outputs`. One with a number that is none is left out."""
        given = found[PROBABILITIES], found[EMBEDDING] if self.reference.embedding else None
        with self._lock:
            self._uncounted.append(given)
            if sum(len(probabilities) for probabilities, _ in self._uncounted) >= AT_ONCE:
                self._count()

    def take(self) -> Sketch | None:
        """What was added since the last one; None where that is nothing, or the last one was a moment ago."""
        now = time.monotonic()
        with self._lock:
            if now - self._taken_at < self.interval_s:
                return None
            self._count()
            if not self._images:
                return None
            self._taken_at = now
            sketch = Sketch(
                self._images,
                tuple(
                    tuple(row[: len(each.counts)])
                    for row, each in zip(self._counts.tolist(), self.reference.quantities, strict=True)
                ),
                tuple(round(value, 6) for value in self._embedding.tolist()),
            )
            self._clear()
            return sketch

    def _count(self) -> None:
        """Move what is not counted yet into the sums."""
        if not self._uncounted:
            return
        probabilities = np.concatenate([each for each, _ in self._uncounted])
        finite = np.isfinite(probabilities).all(axis=1)
        if self.reference.embedding:
            with np.errstate(all="ignore"):
                folded = fold(np.concatenate([each for _, each in self._uncounted if each is not None]))
            finite &= np.isfinite(folded).all(axis=1)
            self._embedding += folded[finite].sum(axis=0)
        self._uncounted.clear()
        if finite.any():
            self._images += int(finite.sum())
            self._counts += self._bins.count(measure(probabilities[finite], self._measured))

    def _clear(self) -> None:
        self._uncounted: list[tuple[Floats, Floats | None]] = []
        self._images = 0
        self._counts = np.zeros((len(self.reference.quantities), self._bins.most), np.int64)
        self._embedding = np.zeros(FOLDED if self.reference.embedding else 0)


def sketcher_of(reference: Reference | None, classes: int, outputs: Sequence[str]) -> Sketcher | None:
    """None without a reference, and for one that the network's `outputs` cannot be measured by."""
    if reference is None or not reference.quantities:
        return None
    if any(not 0 <= each.place < classes for each in reference.quantities if each.place is not None):
        return None
    if reference.embedding and (EMBEDDING not in outputs or len(reference.embedding.mean) != FOLDED):
        return None
    return Sketcher(reference)


@functools.cache
def _signs(count: int) -> Floats:
    """1 or -1 for each of so many places, the same in every release."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(b"fovea drift").digest(-(-count // 8)), np.uint8))
    return bits[:count].astype(np.float32) * 2 - 1
