"""The head on a frozen backbone, solved exactly: multinomial logistic regression with an L2 penalty.

The problem is convex, so there is one answer and no learning rate to get wrong. How strong the penalty is, and
whether the varied views of the images help, cross-validation on the training images decides: the validation images
have no say in it. Knows features and targets, no images and no network.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.training.calibrate import fit_temperature
from models.training.evaluate import cross_entropy
from models.training.seeds import derive

# For features of variance 1. Strong ones first: each solution is where the search for the next one starts.
STRENGTHS = tuple(10.0**exponent for exponent in (1.5, 1, 0.5, 0, -0.5, -1, -1.5, -2, -3, -4))
FOLDS = 5
# Multiply-adds of one look at all the data: up to the first, five folds; up to the second, one.
AFFORDABLE_FOLDS, AFFORDABLE = 1e9, 5e9
ITERATIONS = 200
GRADIENT_TOLERANCE = 1e-5

Check = Callable[[int, int], None]


@dataclass(frozen=True)
class Trial:
    """One setting's cross-validated figures over the training images.

    `loss` is the mean cross-entropy after calibration: how sure a head is will be corrected anyway, by the
    temperature, so it should not decide how strong the penalty is.
    """

    strength: float
    varied: bool
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Head:
    """A linear layer: float32 weight [classes, n] and bias [classes]; `trials` is how its setting was found."""

    weight: Tensor
    bias: Tensor
    strength: float
    varied: bool
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Problem:
    """Features float64 [m, n] of variance 1, targets int64 [m], a weight for each row; the weights add up to 1."""

    features: Tensor
    targets: Tensor
    weights: Tensor


def is_affordable(numbers: int, classes: int) -> bool:
    """Whether a regression on that many numbers, over all views, images and features, takes minutes at most."""
    return numbers * classes <= AFFORDABLE


def fit_head(
    views: Tensor,
    targets: Tensor,
    classes: int,
    *,
    seed: int,
    groups: Sequence[str],
    class_weights: Tensor | None = None,
    start: tuple[Tensor, Tensor] | None = None,
    check: Check | None = None,
) -> Head:
    """The best head for `views`, float32 [v, m, n]: view 0 is plain, the others are variations of it.

    `groups` names each image's content: what is the same image never is in two folds. `start` is a weight and a
    bias to stay near instead of near zero: rows of a head that knew its labels before. They take no part in the
    cross-validation, because they may have been learnt from the images that it leaves out. `check(done, total)` is
    called between fits and may raise.
    """
    views = views.double()
    mean, scale = _location_and_scale(views[0])
    scaled = (views - mean) / scale
    image_weights = _image_weights(targets, class_weights)
    origin = _scaled(start, mean, scale, classes, views.shape[2])
    trials = _cross_validate(scaled, targets, classes, image_weights, seed, groups, check)
    best = min(trials, key=lambda trial: trial.loss, default=Trial(1e-2, len(views) > 1, math.nan, math.nan))
    problem = _problem(scaled if best.varied else scaled[:1], targets, image_weights)
    weight, bias = minimise(problem, best.strength, origin)
    return Head(
        (weight / scale).float(), (bias - weight @ (mean / scale)).float(), best.strength, best.varied, trials
    )


def minimise(
    problem: Problem, strength: float, origin: tuple[Tensor, Tensor], start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Weight and bias with the least mean cross-entropy plus `strength / 2` times the squared way from `origin`.

    L-BFGS in double precision, from `start` or `origin`; the bias is not penalised.
    """
    weight, bias = (part.clone().requires_grad_() for part in start or origin)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        tolerance_grad=GRADIENT_TOLERANCE,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    rows = torch.arange(len(problem.targets))

    def closure() -> Tensor:
        with torch.no_grad():
            log_probabilities = F.log_softmax(problem.features @ weight.T + bias, dim=1)
            distance = weight - origin[0]
            loss = -(problem.weights * log_probabilities[rows, problem.targets]).sum()
            error = log_probabilities.exp()
            error[rows, problem.targets] -= 1
            error *= problem.weights[:, None]
            weight.grad = error.T @ problem.features + strength * distance
            bias.grad = error.sum(dim=0)
            return loss + strength / 2 * distance.square().sum()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _cross_validate(
    views: Tensor,
    targets: Tensor,
    classes: int,
    image_weights: Tensor,
    seed: int,
    groups: Sequence[str],
    check: Check | None,
) -> tuple[Trial, ...]:
    """Every strength, with and without variations, by the loss on plain images that were left out."""
    fold_of = _folds(targets, groups, seed)
    folds = int(fold_of.max()) + 1
    if folds < 2:
        return ()
    asked = range(folds if math.prod(views.shape) * classes <= AFFORDABLE_FOLDS else 1)
    zero = _zero(classes, views.shape[2])
    shown_as = {False: views[:1], True: views} if len(views) > 1 else {False: views}
    answers: dict[tuple[bool, float], list[Tensor]] = {}
    for fold in asked:
        held = fold_of == fold
        for varied, shown in shown_as.items():
            problem = _problem(shown[:, ~held], targets[~held], image_weights[~held])
            found: tuple[Tensor, Tensor] | None = None
            for strength in STRENGTHS:
                found = minimise(problem, strength, zero, found)
                answers.setdefault((varied, strength), []).append(views[0, held] @ found[0].T + found[1])
            if check is not None:
                check(len(shown_as) * fold + varied + 1, len(shown_as) * len(asked))
    truth = torch.cat([targets[fold_of == fold] for fold in asked]).numpy()
    return tuple(
        _judged(varied, strength, torch.cat(parts).float().numpy(), truth)
        for (varied, strength), parts in answers.items()
    )


def _judged(varied: bool, strength: float, logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Trial:
    temperature = fit_temperature(logits, truth)
    return Trial(
        strength,
        varied,
        cross_entropy(logits / temperature, truth),
        float(np.mean(logits.argmax(axis=1) == truth)),
    )


def _location_and_scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the deviation of each feature; one that hardly varies is not blown up."""
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
        for place, group in enumerate(sorted(contents, key=lambda g: derive("fold", seed, g))):
            fold_of[contents[group]] = place % folds
    return fold_of


def _image_weights(targets: Tensor, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return torch.ones(len(targets), dtype=torch.float64)
    return class_weights.double().cpu()[targets]


def _problem(views: Tensor, targets: Tensor, image_weights: Tensor) -> Problem:
    count = len(views)
    weights = image_weights.repeat(count)
    return Problem(views.reshape(-1, views.shape[2]), targets.repeat(count), weights / weights.sum())


def _zero(classes: int, features: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(classes, features, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)


def _scaled(
    start: tuple[Tensor, Tensor] | None, mean: Tensor, scale: Tensor, classes: int, features: int
) -> tuple[Tensor, Tensor]:
    """The head to stay near, for features that were shifted and scaled."""
    if start is None:
        return _zero(classes, features)
    weight, bias = start[0].double(), start[1].double()
    return weight * scale, bias + weight @ mean
