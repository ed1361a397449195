"""A training on images before it begins: plain values, which another process can be given, and what they make."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.normalise import Normalise
from models.spec import Preprocessing
from models.training.augment import mixup_cutmix, train_transform
from models.training.balance import class_weights, sampling_weights
from models.training.batches import EpochBatchSampler, ImageBatches
from models.training.checkpoint import CheckpointStore
from models.training.eval_inputs import EvalImages, ValidationSet
from models.training.group import Group
from models.training.optimizer import parameter_groups
from models.training.pixels import Pixels
from models.training.precision import memory_format
from models.training.recipe import Recipe
from models.training.state import TrainingState
from models.training.strategy import Strategy, freeze
from system.cores import usable_cores

MOST_LOADER_PROCESSES = 8


@dataclass(frozen=True)
class ImageTraining:
    """`targets` are class indices, int64 [n]; `colours` the principal ones of the images, where needed."""

    network: nn.Module
    preprocessing: Preprocessing
    classes: int
    images: Pixels
    targets: NDArray[np.int64]
    validation: Pixels
    validation_targets: NDArray[np.int64]
    recipe: Recipe
    strategy: Strategy
    pretrained: bool
    seed: int
    colours: Tensor | None = None

    def state(
        self,
        device: torch.device,
        group: Group,
        checkpoints: CheckpointStore | None,
        *,
        parts: int | None = None,
    ) -> TrainingState:
        """What the loop trains; the network itself learns. The arguments are those of TrainingState."""
        recipe = self.recipe
        normalise = Normalise(self.preprocessing).to(device)
        layout = memory_format(device, self.network)
        weights = sampling_weights(recipe.class_balance, self.targets)
        batches = ImageBatches(
            self.images,
            self.targets,
            train_transform(recipe.augmentation, self.preprocessing, self.colours),
            EpochBatchSampler(
                len(self.targets), recipe.batch_size, seed=self.seed, weights=weights, ranks=group.size
            ),
            normalise=normalise,
            device=device,
            mix=mixup_cutmix(recipe.augmentation, self.classes),
            workers=loader_processes(device, group.size, usable_cores()),
            group=group,
            memory_format=layout,
        )
        return TrainingState(
            freeze(self.network, self.strategy, recipe, pretrained=self.pretrained),
            parameter_groups(self.network, recipe, pretrained=self.pretrained),
            recipe,
            batches,
            ValidationSet(EvalImages(self.validation, normalise, device), self.validation_targets),
            self.seed,
            device,
            class_weights=class_weights(recipe.class_balance, self.targets, self.classes, device),
            checkpoints=checkpoints,
            group=group,
            memory_format=layout,
            parts=parts,
            shape=(3, self.preprocessing.height, self.preprocessing.width),
        )


def loader_processes(device: torch.device, ranks: int, cores: int) -> int:
    """How many prepare images for each rank: a GPU waits for them, while on a CPU the network has the cores."""
    if device.type != "cuda":
        return 0
    return max(1, min(MOST_LOADER_PROCESSES, (cores - ranks) // ranks)) if cores > ranks else 0
