"""The reference of a version, from what its network gives for its validation images. Knows no torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.drift.reference import EmbeddingReference, Quantity, QuantityName, Reference
from models.drift.sketcher import Bins, fold, measure

MOST_BINS = 32
MOST_CLASSES = 10
# Digits of an edge after the point: what differs by less is no difference, and other processors round otherwise.
DIGITS = 4
# That it is one of the edges tells how often a class was the answer.
ANSWERED = 0.5

Floats = NDArray[np.float32]


def describe(probabilities: Floats, embeddings: Floats | None, labels: Sequence[str]) -> Reference:
    """Of float32 `[n, classes]`, n > 1, calibrated as they are served, and float32 `[n, ...]`.

    Of many classes those have a quantity that the most images are answered with.
    """
    classes = probabilities.shape[1]
    answered = np.bincount(probabilities.argmax(axis=1), minlength=classes) + probabilities.mean(axis=0)
    most = np.sort(np.argsort(-answered, kind="stable")[:MOST_CLASSES]).tolist()
    wanted: list[tuple[QuantityName, int | None]] = [("probability", place) for place in most]
    wanted.append(("top_probability", None))
    if classes > 2:
        # Of two classes the one says what the other does.
        wanted.append(("entropy", None))
    measured = measure(probabilities, wanted)
    empty = tuple(
        Quantity(
            name,
            edges := _edges(column, ANSWERED if place is not None else None),
            (0,) * (len(edges) + 1),
            None if place is None else labels[place],
            place,
        )
        for (name, place), column in zip(wanted, measured.T, strict=True)
    )
    counted = Bins(empty).count(measured).tolist()
    quantities = tuple(
        Quantity(each.name, each.edges, tuple(row[: len(each.counts)]), each.label, each.place)
        for each, row in zip(empty, counted, strict=True)
    )
    return Reference(
        len(probabilities), quantities, None if embeddings is None else _of_embeddings(fold(embeddings))
    )


def _edges(values: Floats, *more: float | None) -> tuple[float, ...]:
    """Quantiles, so that each bin holds about as many images; where many have the same value there are fewer."""
    quantiles = np.quantile(values.astype(np.float64), np.arange(1, MOST_BINS) / MOST_BINS)
    edges = np.unique(np.append(quantiles, [edge for edge in more if edge is not None]).round(DIGITS))
    return tuple(edges.tolist())


def _of_embeddings(folded: Floats) -> EmbeddingReference | None:
    """None where all are the same. The trace of the squared covariance is estimated without bias, as Bai and
    Saranadasa (1996) do: with fewer images than numbers that of the sample is far too large.
    """
    images = len(folded)
    rows = folded.astype(np.float64)
    mean = rows.mean(axis=0)
    covariance = np.cov(rows, rowvar=False)
    spread, squared = float(np.trace(covariance)), float((covariance**2).sum())
    if images < 3 or spread <= 1e-9:
        return None
    unbiased = (images - 1) ** 2 / ((images + 1) * (images - 2)) * (squared - spread**2 / (images - 1))
    # Between one direction and all of them, whatever few images make of it.
    directions = spread**2 / max(unbiased, spread**2 / len(mean))
    return EmbeddingReference(tuple(mean.round(6).tolist()), round(spread, 9), round(max(1.0, directions), 3))
