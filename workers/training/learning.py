"""The heart of a fine-tune: from a starting point and images to a network that knows the labels.

Two ways: a head on a frozen backbone learns from cached features, anything else from the images.
"""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.normalise import Normalise
from models.training.augment import mixing, plain, principal_colours, varied
from models.training.balance import loss_weights, sampling_weights
from models.training.batches import FeatureBatches, ImageBatches, Order
from models.training.checkpoint import Checkpoints
from models.training.data import Pixels, Plan
from models.training.errors import InvalidRecipe
from models.training.features import Extractor, FeatureCache, View
from models.training.head import HeadLearner, head_groups, linear_head, rows_to_keep, solve, solved_outcome
from models.training.inputs import Inputs, PlainFeatures, PlainImages, Validation
from models.training.linear import Head, is_affordable
from models.training.loop import fit
from models.training.optimise import parameter_groups
from models.training.progress import Outcome
from models.training.recipe import Recipe
from models.training.strategy import Choice, freeze, set_dropout
from models.training.training import Training
from models.zoo.layout import split
from system.cores import usable_cores
from workers.training.context import Context
from workers.training.images import Images
from workers.training.mirror import Mirror
from workers.training.request import FinetuneRequest
from workers.training.starting import Start

# Features of one view of all the images; beyond it they are not kept, and the head learns from images.
CACHEABLE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Lesson:
    """All that is needed to learn."""

    request: FinetuneRequest
    division: Plan
    images: Images
    start: Start
    choice: Choice
    device: torch.device

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @property
    def fingerprint(self) -> str:
        """What a checkpoint belongs to: everything that decides how the training goes."""
        request, division = self.request, self.division
        parts = [
            request.architecture,
            self.start.architecture_params,
            self.start.provenance,
            request.recipe.to_dict(),
            request.seed,
            self.choice.strategy,
            division.labels,
            division.train.content_hash,
            division.validation.content_hash,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Learnt:
    """`network` maps `inputs` of the validation and test images to logits: all of it, or its head alone."""

    outcome: Outcome
    network: nn.Module
    validation: Inputs
    test: Inputs
    head: Head | None = None


def learn(context: Context, lesson: Lesson) -> Learnt:
    """Trains `lesson.start.network` in place. Raises Interrupted, OutOfMemory, Diverged."""
    context.reporter.epochs = lesson.recipe.epochs
    if lesson.recipe.dropout is not None:
        set_dropout(lesson.start.network, lesson.recipe.dropout)
    if lesson.choice.strategy == "head" and _features_are_small(lesson):
        return _learn_from_features(context, lesson)
    return _learn_from_images(context, lesson)


def _learn_from_images(context: Context, lesson: Lesson) -> Learnt:
    recipe, start, targets = lesson.recipe, lesson.start, lesson.division.train.targets
    context.reporter.phase("training")
    learner = freeze(start.network, lesson.choice.strategy, recipe, pretrained=start.pretrained)
    normalise = Normalise(start.preprocessing).to(lesson.device)
    batches = ImageBatches(
        lesson.images.train,
        targets,
        varied(recipe.augmentation, start.preprocessing, _colours(recipe, lesson.images.train)),
        _order(lesson),
        normalise=normalise,
        device=lesson.device,
        mix=mixing(recipe.augmentation, len(lesson.division.labels)),
        workers=_loader_processes(lesson.device),
    )
    validation = PlainImages(lesson.images.validation, normalise, lesson.device)
    groups = parameter_groups(start.network, recipe, pretrained=start.pretrained)
    training = Training(
        learner,
        groups,
        recipe,
        batches,
        Validation(validation, lesson.division.validation.targets),
        lesson.request.seed,
        lesson.device,
        class_weights=_class_weights(lesson),
        checkpoints=_checkpoints(context, lesson),
    )
    outcome = fit(training, context.reporter)
    return Learnt(outcome, start.network, validation, PlainImages(lesson.images.test, normalise, lesson.device))


def _learn_from_features(context: Context, lesson: Lesson) -> Learnt:
    context.reporter.phase("extracting")
    views, validation, test = _features(context, lesson)
    context.reporter.phase("training")
    targets = torch.from_numpy(lesson.division.train.targets)
    classes = len(lesson.division.labels)
    linear = linear_head(lesson.start.network)
    if linear is None and lesson.recipe.head == "regression":
        name = lesson.request.architecture
        raise InvalidRecipe("recipe.head", f"got 'regression', but the head of {name} is not one linear layer")
    if linear is not None and _is_solvable(lesson.recipe, views, classes):
        head = solve(
            linear,
            views,
            targets,
            seed=lesson.request.seed,
            groups=lesson.division.train.sha256,
            class_weights=_class_weights(lesson),
            start=rows_to_keep(linear, lesson.division.labels, lesson.start.kept),
            callback=context.reporter.solving,
        )
        outcome = solved_outcome(linear, views[0], targets, validation, lesson.division.validation.targets)
        return Learnt(outcome, linear, PlainFeatures(validation), PlainFeatures(test), head)
    learner = HeadLearner(lesson.start.network)
    inputs = PlainFeatures(validation.to(lesson.device))
    training = Training(
        learner,
        head_groups(learner.network, lesson.recipe),
        lesson.recipe,
        FeatureBatches(views, lesson.division.train.targets, _order(lesson), lesson.device),
        Validation(inputs, lesson.division.validation.targets),
        lesson.request.seed,
        lesson.device,
        class_weights=_class_weights(lesson),
        checkpoints=_checkpoints(context, lesson),
    )
    outcome = fit(training, context.reporter)
    return Learnt(outcome, learner.network, inputs, PlainFeatures(test.to(lesson.device)))


def _features(context: Context, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    """Training features of every view [views, n, ...]; plain ones of the validation and test images [n, ...]."""
    start, augmentation, division = lesson.start, lesson.recipe.augmentation, lesson.division
    extractor = Extractor(
        split(start.network).backbone,
        start.preprocessing,
        lesson.device,
        FeatureCache(context.settings.cache / "features"),
    )
    unvaried = View(0, plain(start.preprocessing))
    vary = varied(augmentation, start.preprocessing, _colours(lesson.recipe, lesson.images.train))
    views = [
        unvaried,
        *(View(i + 1, vary, augmentation, lesson.request.seed) for i in range(lesson.recipe.head_views)),
    ]
    total = len(division.train) * len(views) + len(division.validation) + len(division.test)
    train = extractor.extract(
        division.train, lesson.images.train, views, lambda done, _: context.reporter.tick(done, total)
    )
    before = len(division.train) * len(views)
    validation = extractor.extract(
        division.validation,
        lesson.images.validation,
        [unvaried],
        lambda done, _: context.reporter.tick(before + done, total),
    )
    if not len(division.test):
        return train, validation[0], validation[0, :0]
    before += len(division.validation)
    test = extractor.extract(
        division.test, lesson.images.test, [unvaried], lambda done, _: context.reporter.tick(before + done, total)
    )
    return train, validation[0], test[0]


def _is_solvable(recipe: Recipe, views: Tensor, classes: int) -> bool:
    if recipe.head == "auto":
        return views.dim() == 3 and is_affordable(views.numel(), classes)
    return recipe.head == "regression"


@torch.inference_mode()
def _features_are_small(lesson: Lesson) -> bool:
    backbone = split(lesson.start.network).backbone.eval()
    height, width = lesson.start.preprocessing.height, lesson.start.preprocessing.width
    one: Tensor = backbone(torch.zeros(1, 3, height, width))
    return one.numel() * 4 * len(lesson.division.train) <= CACHEABLE_BYTES


def _order(lesson: Lesson) -> Order:
    targets = lesson.division.train.targets
    weights = sampling_weights(lesson.recipe, targets)
    return Order(len(targets), lesson.recipe.batch_size, seed=lesson.request.seed, weights=weights)


def _class_weights(lesson: Lesson) -> Tensor | None:
    return loss_weights(lesson.recipe, lesson.division.train.targets, len(lesson.division.labels), lesson.device)


def _checkpoints(context: Context, lesson: Lesson) -> Checkpoints:
    checkpoints = Checkpoints(context.work / "checkpoints", lesson.fingerprint)
    mirror = Mirror(context.blobs, context.checkpoint_prefix)
    mirror.fetch_newer(checkpoints)
    context.reporter.mirror = mirror.saved
    return checkpoints


def _colours(recipe: Recipe, pixels: Pixels) -> Tensor | None:
    if not recipe.augmentation.colour_pca:
        return None
    some = np.linspace(0, len(pixels) - 1, min(256, len(pixels))).round().astype(int)
    return principal_colours(torch.from_numpy(pixels.array[some]).permute(0, 3, 1, 2))


def _loader_processes(device: torch.device) -> int:
    """On a CPU the network itself keeps the cores busy; a GPU waits for images unless others prepare them."""
    return min(8, usable_cores() - 1) if device.type == "cuda" else 0
