"""The head on a frozen backbone, solved exactly: multinomial logistic regression with an L2 penalty.

The problem is convex, so there is one answer and no learning rate to get wrong. The weight of the penalty, and
whether augmented views of the images help, cross-validation on the training images decides: the validation images
have no say in it. Knows features and targets, no images and no network.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.training.calibrate import fit_temperature
from models.training.metrics import cross_entropy
from models.training.precision import one_thread
from models.training.progress import OnProgress
from models.training.seeds import derive_seed

# Weights of the penalty for features of variance 1; scikit-learn's C is 1 / (images * l2). Strong ones first: each
# solution is where the search for the next one starts.
L2_GRID = tuple(10.0**exponent for exponent in (1.5, 1, 0.5, 0, -0.5, -1, -1.5, -2, -3, -4))
FOLDS = 5
# Multiply-adds of one look at all the data: up to the first, five folds; up to the second, one.
AFFORDABLE_FOLDS, AFFORDABLE = 1e9, 5e9
# Up to so many, threads cost more than they save (measured with one and two: 1.1 and 1.9 s for ants and bees, 2.4
# and 5.6 s for ten million, 8.7 and 7.5 s for forty).
ONE_THREAD = 2e7
# Of all views in double precision, which are held three times: as they are, scaled, and as rows.
AFFORDABLE_BYTES = 4 * 2**30
ITERATIONS = 200
GRADIENT_TOLERANCE = 1e-5

WeightAndBias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Trial:
    """One setting's cross-validated metrics over the training images.

    `l2` is the weight of the penalty; `augmented` says whether augmented views were trained on. `loss` is the mean
    cross-entropy after temperature scaling: how confident a head is will be corrected anyway, so it should not
    decide the penalty.
    """

    l2: float
    augmented: bool
    loss: float
    accuracy: float


@dataclass(frozen=True)
class FittedHead:
    """A linear layer: float32 weight [classes, n] and bias [classes]; `trials` is how its setting was found.

    `held_out` are logits of the training images, float32 [m, classes], each by a head of the same setting that did
    not learn from the image; None where not every image was left out once.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    augmented: bool
    trials: tuple[Trial, ...]
    held_out: Tensor | None = None


def is_affordable(numbers: int, classes: int) -> bool:
    """Whether a regression on that many numbers (views, images, features) takes minutes and gigabytes at most."""
    return numbers * classes <= AFFORDABLE and 3 * 8 * numbers <= AFFORDABLE_BYTES


def fit_head(
    views: Tensor,
    targets: Tensor,
    classes: int,
    *,
    seed: int,
    groups: Sequence[str],
    class_weights: Tensor | None = None,
    start: WeightAndBias | None = None,
    l2_grid: Sequence[float] = L2_GRID,
    every_fold: bool = False,
    on_progress: OnProgress | None = None,
) -> FittedHead:
    """The best head for `views`, float32 [v, m, n]: view 0 is plain, the others are augmented; targets int64 [m].

    `groups` names each image's content: identical images share a fold. `start` is a weight and a
    bias to stay near instead of near zero: rows of a head that knew its labels before (L2-SP, Li et al. 2018).
    They take no part in the cross-validation, because they may have been learnt from the images that it leaves
    out. `l2_grid` are the penalties that are tried. With `every_fold` each image is left out once, however many
    there are. `on_progress(done, total)` is called between fits and may raise.
    """
    with one_thread() if views.numel() * classes <= ONE_THREAD else nullcontext():
        return _fit(
            views.double(), targets, classes, seed, groups, class_weights, start, l2_grid, every_fold, on_progress
        )


def _fit(
    views: Tensor,
    targets: Tensor,
    classes: int,
    seed: int,
    groups: Sequence[str],
    class_weights: Tensor | None,
    start: WeightAndBias | None,
    l2_grid: Sequence[float],
    every_fold: bool,
    on_progress: OnProgress | None,
) -> FittedHead:
    mean, scale = _mean_and_scale(views[0])
    scaled = (views - mean) / scale
    image_weights = _image_weights(targets, class_weights)
    validated = _cross_validate(
        scaled, targets, classes, image_weights, seed, groups, l2_grid, every_fold, on_progress
    )
    trials = tuple(found.trial for found in validated)
    best = min(trials, key=lambda trial: trial.loss, default=Trial(1e-2, len(views) > 1, math.nan, math.nan))
    held_out = next((found.held_out for found in validated if found.trial is best), None)
    weight, bias = fit_logistic_regression(
        *_rows(scaled if best.augmented else scaled[:1], targets, image_weights),
        l2=best.l2,
        center=_for_scaled_features(start, mean, scale) if start else _zeros(classes, views.shape[2]),
    )
    return FittedHead(
        (weight / scale).float(),
        (bias - weight @ (mean / scale)).float(),
        best.l2,
        best.augmented,
        trials,
        held_out,
    )


def fit_logistic_regression(
    features: Tensor,
    targets: Tensor,
    sample_weight: Tensor,
    *,
    l2: float,
    center: WeightAndBias,
    init: WeightAndBias | None = None,
) -> WeightAndBias:
    """Weight and bias with the least mean cross-entropy plus `l2 / 2 * ||weight - center||^2`.

    Features float64 [m, n], targets int64 [m], `sample_weight` float64 [m], which adds up to 1. L-BFGS in double
    precision, from `init` or else `center`; the bias is not penalised.
    """
    weight, bias = (part.clone().requires_grad_() for part in init or center)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        tolerance_grad=GRADIENT_TOLERANCE,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    rows = torch.arange(len(targets))

    def closure() -> Tensor:
        with torch.no_grad():
            log_probabilities = F.log_softmax(features @ weight.T + bias, dim=1)
            distance = weight - center[0]
            loss = -(sample_weight * log_probabilities[rows, targets]).sum()
            error = log_probabilities.exp()
            error[rows, targets] -= 1
            error *= sample_weight[:, None]
            weight.grad = error.T @ features + l2 * distance
            bias.grad = error.sum(dim=0)
            return loss + l2 / 2 * distance.square().sum()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _cross_validate(
    views: Tensor,
    targets: Tensor,
    classes: int,
    image_weights: Tensor,
    seed: int,
    groups: Sequence[str],
    l2_grid: Sequence[float],
    every_fold: bool,
    on_progress: OnProgress | None,
) -> tuple["_Validated", ...]:
    """Every `l2`, with and without augmented views, by the loss on plain images that were left out."""
    fold_of = _folds(targets, groups, seed)
    folds = int(fold_of.max()) + 1
    if folds < 2:
        return ()
    every_fold = every_fold or math.prod(views.shape) * classes <= AFFORDABLE_FOLDS
    validated = range(folds if every_fold else 1)
    zeros = _zeros(classes, views.shape[2])
    trained_on = {False: views[:1], True: views} if len(views) > 1 else {False: views}
    logits: dict[tuple[float, bool], list[Tensor]] = {}
    for fold in validated:
        held_out = fold_of == fold
        for augmented, shown in trained_on.items():
            rows = _rows(shown[:, ~held_out], targets[~held_out], image_weights[~held_out])
            found: WeightAndBias | None = None
            for l2 in l2_grid:
                weight, bias = found = fit_logistic_regression(*rows, l2=l2, center=zeros, init=found)
                logits.setdefault((l2, augmented), []).append(views[0, held_out] @ weight.T + bias)
            if on_progress is not None:
                on_progress(len(trained_on) * fold + augmented + 1, len(trained_on) * len(validated))
    rows_of = torch.cat([torch.nonzero(fold_of == fold)[:, 0] for fold in validated])
    truth = targets[rows_of].numpy()
    found_of = []
    for (l2, augmented), parts in logits.items():
        answered = torch.cat(parts).float()
        in_order = answered[rows_of.argsort()] if every_fold else None
        found_of.append(_Validated(_trial(l2, augmented, answered.numpy(), truth), in_order))
    return tuple(found_of)


@dataclass(frozen=True)
class _Validated:
    """`held_out` are the logits in the order of the images, where each was left out."""

    trial: Trial
    held_out: Tensor | None


def _trial(l2: float, augmented: bool, logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Trial:
    calibrated = logits / fit_temperature(logits, truth)
    return Trial(l2, augmented, cross_entropy(calibrated, truth), float(np.mean(logits.argmax(axis=1) == truth)))


def _mean_and_scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each feature; one that hardly varies is not blown up."""
    mean = features.mean(dim=0)
    deviation = (features - mean).square().mean(dim=0).sqrt()
    return mean, deviation.clamp(min=max(1e-12, 0.01 * float(deviation.square().mean().sqrt())))


def _folds(targets: Tensor, groups: Sequence[str], seed: int) -> Tensor:
    """A fold for each image, int64 [m]: stratified, and the same for images of the same content."""
    fold_of = torch.zeros(len(targets), dtype=torch.int64)
    members: dict[int, dict[str, list[int]]] = {}
    for i, (target, group) in enumerate(zip(targets.tolist(), groups, strict=True)):
        members.setdefault(target, {}).setdefault(group, []).append(i)
    folds = min(FOLDS, *(len(contents) for contents in members.values()))
    for contents in members.values():
        for place, group in enumerate(sorted(contents, key=lambda g: derive_seed("fold", seed, g))):
            fold_of[contents[group]] = place % folds
    return fold_of


def _image_weights(targets: Tensor, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return torch.ones(len(targets), dtype=torch.float64)
    return class_weights.double().cpu()[targets]


def _rows(views: Tensor, targets: Tensor, image_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features, targets and sample weights with a row for each view of each image."""
    count = len(views)
    weights = image_weights.repeat(count)
    return views.reshape(-1, views.shape[2]), targets.repeat(count), weights / weights.sum()


def _zeros(classes: int, features: int) -> WeightAndBias:
    return torch.zeros(classes, features, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)


def _for_scaled_features(head: WeightAndBias, mean: Tensor, scale: Tensor) -> WeightAndBias:
    """The head that answers to shifted and scaled features what `head` answers to the features themselves."""
    weight, bias = head[0].double(), head[1].double()
    return weight * scale, bias + weight @ mean
