"""Embeddings of made-up images: a cloud of points for each class."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]


def clouds(per_class: int, *, classes: int = 3, spread: float = 0.5, seed: int = 0) -> Arrays:
    """Embeddings float32 [n, 8] around a centre for each class, and their class indices."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, 8))
    targets = np.repeat(np.arange(classes), per_class)
    return (centres[targets] + spread * rng.normal(size=(len(targets), 8))).astype(np.float32), targets


def contents(count: int) -> list[str]:
    return [f"{i:064x}" for i in range(count)]
