"""A network trained on a split of a dataset: all of a fine-tune between its images and its export.

A head on a frozen backbone is fitted to cached features where these are small enough; everything else is
trained on the images. Knows no job, no queue, and not where images or weights come from.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.backbone_graph import BackboneGraphs
from models.errors import ExportFailed
from models.normalise import Normalise
from models.training.augment import eval_transform, principal_colours, train_transform
from models.training.backbone import Backbone, OnnxBackbone, TorchBackbone
from models.training.balance import class_weights, sampling_weights
from models.training.batches import EpochBatchSampler, FeatureBatches
from models.training.checkpoint import CheckpointStore
from models.training.errors import InvalidRecipe
from models.training.eval_inputs import EvalFeatures, EvalImages, EvalInputs, ValidationSet
from models.training.features import FeatureCache, FeatureExtractor, View
from models.training.group import Alone
from models.training.head import (
    TrainableHead,
    fit_linear_head,
    head_groups,
    linear_head,
    regression_result,
    rows_to_keep,
)
from models.training.image_training import ImageTraining
from models.training.inputs import TrainingInputs
from models.training.linear import FittedHead, is_affordable
from models.training.loop import fit
from models.training.parallel import ONE_DEVICE, Devices, ranks_for, train_on_ranks
from models.training.precision import compute_in_float32
from models.training.progress import FitResult, OnProgress, Watcher
from models.training.recipe import Recipe
from models.training.state import TrainingState
from models.training.strategy import Strategy, set_dropout
from models.zoo.layout import split_network
from models.zoo.registry import built
from system.cores import usable_cores

logger = logging.getLogger(__name__)

# Features of one view of all the images; beyond it they are not kept, and the head is trained on images.
CACHEABLE_BYTES = 2 * 2**30
# Images that the principal colours are computed from.
COLOUR_SAMPLE = 256


@dataclass(frozen=True)
class TrainedModel:
    """`network` maps `validation` and `test` to logits: it is the whole network, or its head with features.

    `features` are those of the training images, without augmentation, where the network is a head. `backbone` is
    the graph of what came before the head, where it was left alone and the head is one linear layer. `devices`
    trained it together.
    """

    result: FitResult
    network: nn.Module
    validation: EvalInputs
    test: EvalInputs
    head: FittedHead | None = None
    features: EvalFeatures | None = None
    backbone: Path | None = None
    devices: int = 1


@dataclass(frozen=True)
class KeptGraphs:
    """Where graphs of backbones are kept, and `copy`, where this training has the one that it uses."""

    graphs: BackboneGraphs
    copy: Path


def train(
    network: nn.Module,
    inputs: TrainingInputs,
    recipe: Recipe,
    *,
    strategy: Strategy,
    pretrained: bool,
    seed: int,
    device: torch.device,
    watcher: Watcher,
    cache: FeatureCache,
    graphs: KeptGraphs | None = None,
    checkpoints: CheckpointStore | None = None,
    kept_labels: Sequence[str] = (),
    devices: Devices = ONE_DEVICE,
) -> TrainedModel:
    """Trains `network` in place, from the newest checkpoint if there is one.

    `pretrained`: whether its weights are worth keeping. `graphs`: without them features are torch's. `kept_labels`
    are those that its head knows already, which a fitted head stays near to. `devices` are for a training on
    images: features are computed once and a head on them is fitted in seconds, by one. Raises Interrupted from the
    watcher, OutOfMemory, Diverged, RankLost, and InvalidRecipe for a regression where the head is not one linear
    layer, or where its features cannot be kept.
    """
    compute_in_float32()
    if recipe.dropout is not None:
        set_dropout(network, recipe.dropout)
    if strategy == "head" and _can_use_features(network, inputs, recipe):
        return _train_head(
            network,
            inputs,
            recipe,
            seed=seed,
            device=device,
            watcher=watcher,
            cache=cache,
            graphs=graphs,
            checkpoints=checkpoints,
            kept_labels=kept_labels,
        )
    if strategy == "head" and recipe.head == "regression":
        raise InvalidRecipe(
            "recipe.head: got 'regression', which needs features that are kept, but the recipe mixes images "
            "(mixup, cutmix) or there are too many of them; choose 'auto'"
        )
    return _train_on_images(
        network,
        inputs,
        recipe,
        strategy=strategy,
        pretrained=pretrained,
        seed=seed,
        device=device,
        watcher=watcher,
        checkpoints=checkpoints,
        devices=devices,
    )


def _train_on_images(
    network: nn.Module,
    inputs: TrainingInputs,
    recipe: Recipe,
    *,
    strategy: Strategy,
    pretrained: bool,
    seed: int,
    device: torch.device,
    watcher: Watcher,
    checkpoints: CheckpointStore | None,
    devices: Devices,
) -> TrainedModel:
    watcher.phase("training")
    split = inputs.split
    training = ImageTraining(
        network,
        inputs.preprocessing,
        len(split.labels),
        inputs.train,
        split.train.targets,
        inputs.validation,
        split.validation.targets,
        recipe,
        strategy,
        pretrained,
        seed,
        colours=_colours(recipe, inputs),
    )
    # Ranks need a folder beside that of the checkpoints.
    ranks = 1 if checkpoints is None else ranks_for(devices, device, recipe, len(inputs.train))
    if checkpoints is not None and ranks > 1:
        result = train_on_ranks(training, ranks, device, watcher, checkpoints, silence_s=devices.silence_s)
    else:
        result = fit(training.state(device, Alone(), checkpoints), watcher)
    # As the export wants it.
    network.to(device).to(memory_format=torch.contiguous_format)
    normalise = Normalise(inputs.preprocessing).to(device)
    validation, test = (EvalImages(pixels, normalise, device) for pixels in (inputs.validation, inputs.test))
    return TrainedModel(result, network, validation, test, devices=ranks)


def _train_head(
    network: nn.Module,
    inputs: TrainingInputs,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    watcher: Watcher,
    cache: FeatureCache,
    graphs: KeptGraphs | None,
    checkpoints: CheckpointStore | None,
    kept_labels: Sequence[str],
) -> TrainedModel:
    watcher.phase("extracting")
    linear = linear_head(network)
    backbone, graph = _backbone(network, inputs, device, graphs if linear else None)
    views, validation, test = _features(backbone, inputs, recipe, seed, watcher, cache)
    watcher.phase("training")
    split, classes, plain = inputs.split, len(inputs.split.labels), EvalFeatures(views[0])
    if linear is None and recipe.head == "regression":
        raise InvalidRecipe("recipe.head: got 'regression', but this architecture's head is not one linear layer")
    if linear is not None and _is_solvable(recipe, views, classes):
        targets = torch.from_numpy(split.train.targets)
        # A regression draws no images: what a sampler would do by drawing, weights do.
        balance = "weights" if recipe.class_balance == "sampler" else recipe.class_balance
        head = fit_linear_head(
            linear,
            views,
            targets,
            seed=seed,
            groups=split.train.sha256,
            class_weights=class_weights(balance, split.train.targets, classes, device),
            start=rows_to_keep(linear, split.labels, kept_labels),
            on_progress=watcher.progress,
        )
        result = regression_result(linear, views[0], targets, validation, split.validation.targets)
        return TrainedModel(result, linear, EvalFeatures(validation), EvalFeatures(test), head, plain, graph)
    trainable = TrainableHead(network)
    on_device = EvalFeatures(validation.to(device))
    state = TrainingState(
        trainable,
        head_groups(trainable.network, recipe),
        recipe,
        FeatureBatches(views, split.train.targets, _sampler(recipe, split.train.targets, seed), device),
        ValidationSet(on_device, split.validation.targets),
        seed,
        device,
        class_weights=class_weights(recipe.class_balance, split.train.targets, classes, device),
        checkpoints=checkpoints,
    )
    result = fit(state, watcher)
    on_device_test = EvalFeatures(test.to(device))
    return TrainedModel(result, trainable.network, on_device, on_device_test, features=plain, backbone=graph)


def _sampler(recipe: Recipe, targets: NDArray[np.int64], seed: int) -> EpochBatchSampler:
    weights = sampling_weights(recipe.class_balance, targets)
    return EpochBatchSampler(len(targets), recipe.batch_size, seed=seed, weights=weights)


def _backbone(
    network: nn.Module, inputs: TrainingInputs, device: torch.device, graphs: KeptGraphs | None
) -> tuple[Backbone, Path | None]:
    """With its graph, and on a CPU by ONNX Runtime, where that can be had. Raises OSError."""
    module = split_network(network).backbone.eval()
    torchs = TorchBackbone(module, inputs.preprocessing, device)
    if graphs is None:
        return torchs, None
    identity = f"{built(network).architecture.name}/{torchs.identity}"
    try:
        graphs.graphs.fetch(module, inputs.preprocessing, identity, graphs.copy)
    except ExportFailed as error:
        # Whether the network can be exported as a whole, the export of the whole decides.
        logger.warning("the backbone is not kept as a graph: %s", error)
        return torchs, None
    on_cpu = device.type == "cpu"
    return OnnxBackbone(graphs.copy, identity, usable_cores()) if on_cpu else torchs, graphs.copy


def _features(
    backbone: Backbone,
    inputs: TrainingInputs,
    recipe: Recipe,
    seed: int,
    watcher: Watcher,
    cache: FeatureCache,
) -> tuple[Tensor, Tensor, Tensor]:
    """float32 on the CPU: training features of every view [views, n, ...], plain ones of the others [n, ...]."""
    split, augmentation = inputs.split, recipe.augmentation
    extractor = FeatureExtractor(backbone, cache)
    plain = View(0, eval_transform(inputs.preprocessing))
    transform = train_transform(augmentation, inputs.preprocessing, _colours(recipe, inputs))
    views = [plain, *(View(i + 1, transform, augmentation, seed) for i in range(recipe.head_views))]
    parts = (
        (split.train, inputs.train, views),
        (split.validation, inputs.validation, [plain]),
        (split.test, inputs.test, [plain]),
    )
    total = sum(len(images) * len(seen) for images, _, seen in parts)
    found: list[Tensor] = []
    done = 0

    def progress_after(before: int) -> OnProgress:
        return lambda now, _: watcher.progress(before + now, total)

    for images, pixels, seen in parts:
        if len(images):
            found.append(extractor.extract(images, pixels, seen, progress_after(done)))
        else:
            found.append(found[-1][:, :0])
        done += len(images) * len(seen)
    train, validation, test = found
    return train, validation[0], test[0]


def _is_solvable(recipe: Recipe, views: Tensor, classes: int) -> bool:
    if recipe.head == "auto":
        return views.dim() == 3 and is_affordable(views.numel(), classes)
    return recipe.head == "regression"


@torch.inference_mode()
def _can_use_features(network: nn.Module, inputs: TrainingInputs, recipe: Recipe) -> bool:
    """Whether features of single images can stand for the images, and fit into memory."""
    if recipe.augmentation.mixup or recipe.augmentation.cutmix:
        return False
    backbone = split_network(network).backbone.eval()
    one: Tensor = backbone(torch.zeros(1, 3, inputs.preprocessing.height, inputs.preprocessing.width))
    return one.numel() * 4 * len(inputs.split.train) <= CACHEABLE_BYTES


def _colours(recipe: Recipe, inputs: TrainingInputs) -> Tensor | None:
    """The principal colours of some training images, where the recipe shifts colours along them."""
    if not recipe.augmentation.colour_pca:
        return None
    indices = np.linspace(0, len(inputs.train) - 1, min(COLOUR_SAMPLE, len(inputs.train))).round().astype(int)
    return principal_colours(torch.from_numpy(inputs.train.array[indices]).permute(0, 3, 1, 2))
