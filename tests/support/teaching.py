"""What tests of training share: a dataset of coloured pictures, a watcher, and a small training on digits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from support.colours import LABELS, picture

from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.dataset.sample import SplitName
from models.normalise import Normalise
from models.training.augment import train_transform
from models.training.batches import EpochBatchSampler, ImageBatches
from models.training.checkpoint import Checkpoints
from models.training.eval_inputs import EvalImages, ValidationSet
from models.training.interruption import Interrupted
from models.training.optimizer import parameter_groups
from models.training.pixels import Pixels
from models.training.progress import EpochRecord, StepRecord
from models.training.recipe import Recipe, read_recipe
from models.training.seeding import seed_everything
from models.training.state import TrainingState
from models.training.strategy import Strategy, freeze
from models.weights.loading import default_preprocessing
from models.zoo.registry import build, get

CPU = torch.device("cpu")
SMALL_RECIPE = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "patience": None,
    # With AMX a CPU would compute in bfloat16: other numbers on other machines.
    "mixed_precision": "off",
    "augmentation": {"crop": "centre", "mirror": False, "rotation": 5.0, "translation": 0.05},
}


def colour_dataset(
    folder: Path, *, per_class: int, split: Callable[[int], SplitName | None] = {}.get,
    labels: Sequence[str] = LABELS,
) -> DatasetFolder:  # fmt: skip
    """`per_class` noisy pictures of each colour; `split` says which of them are for what."""
    return write_dataset(
        folder,
        [
            LabelledImage(picture(colour, noise=1 + i + 1000 * k), colour, split(i), f"{colour}/{i:03d}.png")
            for k, colour in enumerate(labels)
            for i in range(per_class)
        ],
    )


@dataclass
class Watching:
    """Notes everything that it is told, and stops the training at a step if it is asked to."""

    stop_at: tuple[int, int] | None = None
    interruption: Interrupted = field(default_factory=lambda: Interrupted("terminated", resume=True))
    phases: list[str] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)

    def check(self) -> None:
        pass

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def progress(self, done: int, total: int) -> None:
        assert done <= total

    def step(self, record: StepRecord) -> None:
        self.steps.append((record.epoch, record.step))
        if self.steps[-1] == self.stop_at:
            raise self.interruption

    def evaluating(self, done: int, total: int) -> None:
        assert done <= total

    def epoch(self, record: EpochRecord) -> None:
        self.epochs.append(record)


def digit_pixels(count: int, seed: int = 0) -> tuple[Pixels, np.ndarray]:
    """The first `count` training digits, enlarged to 32 x 32 by repetition, which needs no decoder."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))[:count]
    small = (data.images[order] * (255 / 16)).round().astype(np.uint8)
    return Pixels(np.repeat(np.repeat(small, 4, 1), 4, 2)[..., None].repeat(3, 3)), data.target[order].astype(
        np.int64
    )


def small_training(
    train: tuple[Pixels, np.ndarray],
    validation: tuple[Pixels, np.ndarray],
    *,
    recipe: Recipe | None = None,
    checkpoints: Checkpoints | None = None,
    strategy: Strategy = "full",
    seed: int = 5,
    device: torch.device = CPU,
    **overrides: object,
) -> TrainingState:
    """LeNet-5 with dropout-free layers on digits: steps of milliseconds."""
    recipe = recipe or read_recipe({**SMALL_RECIPE, **overrides})
    preprocessing = default_preprocessing(get("lenet5"))
    seed_everything(seed, "network")
    network = build("lenet5", num_classes=10)
    normalise = Normalise(preprocessing)
    return TrainingState(
        freeze(network, strategy, recipe, pretrained=False),
        parameter_groups(network, recipe, pretrained=False),
        recipe,
        ImageBatches(
            train[0],
            train[1],
            train_transform(recipe.augmentation, preprocessing, None),
            EpochBatchSampler(len(train[1]), recipe.batch_size, seed=seed),
            normalise=normalise,
            device=device,
        ),
        ValidationSet(EvalImages(validation[0], normalise, device), validation[1]),
        seed,
        device,
        checkpoints=checkpoints,
    )
