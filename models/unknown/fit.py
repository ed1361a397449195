"""Scores fitted to the embeddings of training images. Knows no images and no files."""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

from models.unknown.scores import Mahalanobis, NearestNeighbour, Rows, normalised

# Of the covariance: what varies less is as the rest, for files and products to stay small.
MOST_DIRECTIONS = 128
# Beyond so many, evenly over the classes, an image more tells nothing of a covariance.
MOST_FITTED = 2048
MOST_NEIGHBOURS = 1024


def fit_mahalanobis(embedding: Rows, targets: NDArray[np.int64], most: int = MOST_FITTED) -> Mahalanobis:
    """For embeddings float32 [n, D], n >= 1, of the classes int64 [n], fitted to at most `most`.

    One covariance for all classes, of the normalised embeddings around their class's mean, shrunk towards a
    multiple of the identity (Ledoit and Wolf, 2004).
    """
    rows = spread(targets, most)
    values, classes = normalised(embedding[rows]), targets[rows]
    labels, inverse = np.unique(classes, return_inverse=True)
    means = np.zeros((len(labels), values.shape[1]), np.float64)
    np.add.at(means, inverse, values)
    means /= np.bincount(inverse)[:, None]
    rest = values - means[inverse]
    shrinkage = float(ledoit_wolf_shrinkage(rest, assume_centered=True)) if len(rest) > 1 else 1.0
    variances, axes = _principal(rest)
    # Of images that are all alike nothing is left: any other then is infinitely far, but for this.
    floor = max(shrinkage * float((rest**2).mean()), 1e-6)
    weights = 1 / floor - 1 / ((1 - shrinkage) * variances + floor)
    directions = axes * np.sqrt(weights)
    precise = means / floor - (means @ directions) @ directions.T
    return Mahalanobis(
        1 / floor,
        directions.astype(np.float32),
        (-2 * precise.T).astype(np.float32),
        np.einsum("cd,cd->c", precise, means).astype(np.float32),
    )


def fit_nearest(embedding: Rows, targets: NDArray[np.int64], most: int = MOST_NEIGHBOURS) -> NearestNeighbour:
    """For embeddings float32 [n, D], n >= 1, of the classes int64 [n], of which at most `most` are kept."""
    return NearestNeighbour(normalised(embedding[spread(targets, min(most, MOST_NEIGHBOURS))]).astype(np.float16))


def spread(targets: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The places of at most `most` images, of each class as large a share as it has."""
    order = np.argsort(targets, kind="stable")
    if len(order) <= most:
        return np.sort(order)
    return np.sort(order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)])


def _principal(rest: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest variances [k] of rows [n, D] around zero, and their axes [D, k]; by the smaller product."""
    n, dimensions = rest.shape
    if n >= dimensions:
        variances, axes = np.linalg.eigh(rest.T @ rest / n)
        kept = np.argsort(-variances)[:MOST_DIRECTIONS]
        return np.maximum(variances[kept], 0), axes[:, kept]
    variances, sides = np.linalg.eigh(rest @ rest.T / n)
    kept = np.argsort(-variances)[:MOST_DIRECTIONS]
    kept = kept[variances[kept] > 1e-9 * max(variances[kept[0]], 1e-12)]
    return variances[kept], (rest.T @ sides[:, kept]) / np.sqrt(n * variances[kept])
