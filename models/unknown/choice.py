"""Which score tells foreign images of a version best: by classes held out of the fit, and by images of none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.spec import LOGITS
from models.training.embedded import EmbeddedImages
from models.unknown.fit import MOST_FITTED, fit_mahalanobis, fit_nearest
from models.unknown.scores import METHODS, GeneralisedEntropy, Method, Rows, Score
from models.unknown.separation import HELD_OUT, auroc

# Of more classes a fifth at a time is held out.
MOST_RUNS = 5
# For a run that only chooses.
FITTED_IN_A_RUN = 512

# By the name of the graph's output, each [n, ...].
Outputs = Mapping[str, Rows]


@dataclass(frozen=True)
class Candidate:
    """`separation` is the AUROC by what was foreign; None where nothing of that kind could be measured."""

    method: Method
    separation: Mapping[str, float | None]

    @property
    def auroc(self) -> float | None:
        """The mean over the kinds of foreign images."""
        found = [value for value in self.separation.values() if value is not None]
        return float(np.mean(found)) if found else None


def fit_score(method: Method, images: EmbeddedImages, most: int = MOST_FITTED) -> Score:
    """To images that have embeddings, where it reads them."""
    if method == GeneralisedEntropy.method or images.embedding is None:
        return GeneralisedEntropy()
    fit: Callable[..., Score] = fit_mahalanobis if method == "mahalanobis" else fit_nearest
    return fit(images.embedding, images.targets, most)


def candidates(
    train: EmbeddedImages, validation: EmbeddedImages, foreign: Mapping[str, Outputs]
) -> list[Candidate]:
    """Best first. Fitted to training images; the known ones are validation images, which nothing was fitted to.

    Foreign are the `foreign` by their kind and, in runs without them, the training images of held out classes.
    """
    methods = [m for m in METHODS if m == GeneralisedEntropy.method or train.embedding is not None]
    found = [Candidate(method, _separation(method, train, validation, foreign)) for method in methods]
    return sorted(found, key=lambda candidate: -(candidate.auroc or 0.0))


def _separation(
    method: Method, train: EmbeddedImages, validation: EmbeddedImages, foreign: Mapping[str, Outputs]
) -> dict[str, float | None]:
    runs = [_without(method, train, validation, held) for held in _held_out(train.targets)]
    measured = [value for value in runs if value is not None]
    score = fit_score(method, train, FITTED_IN_A_RUN)
    known = score(values_of(validation, score))
    return {
        HELD_OUT: float(np.mean(measured)) if measured else None,
        **{
            kind: auroc(known, score(outputs[score.output])) if len(outputs[LOGITS]) else None
            for kind, outputs in foreign.items()
        },
    }


def _held_out(targets: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    classes = np.unique(targets)
    return [classes[first::MOST_RUNS] for first in range(min(len(classes), MOST_RUNS))]


def _without(
    method: Method, train: EmbeddedImages, validation: EmbeddedImages, held: NDArray[np.int64]
) -> float | None:
    kept, known = ~np.isin(train.targets, held), ~np.isin(validation.targets, held)
    if not kept.any() or not known.any():
        return None
    if method == GeneralisedEntropy.method:
        score: Score = GeneralisedEntropy()
        columns = np.setdiff1d(np.arange(train.logits.shape[1]), held)
        return auroc(score(validation.logits[known][:, columns]), score(train.logits[~kept][:, columns]))
    score = fit_score(method, part_of(train, kept), FITTED_IN_A_RUN)
    return auroc(score(values_of(validation, score)[known]), score(values_of(train, score)[~kept]))


def part_of(images: EmbeddedImages, kept: NDArray[np.bool_]) -> EmbeddedImages:
    embedding = None if images.embedding is None else images.embedding[kept]
    return EmbeddedImages(images.images, images.rows[kept], images.logits[kept], embedding)


def values_of(images: EmbeddedImages, score: Score) -> Rows:
    """What the score reads of them."""
    if score.output == LOGITS or images.embedding is None:
        return images.logits
    return images.embedding
