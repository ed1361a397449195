"""What tests of trainings by several processes share: the training, its processes, and what goes wrong in one."""

import os
from pathlib import Path
from typing import Any

import torch
from support.teaching import SMALL_RECIPE, digit_pixels
from torch import nn

from models.training.image_training import ImageTraining
from models.training.recipe import read_recipe
from models.training.seeding import seed_everything
from models.weights.loading import default_preprocessing
from models.zoo.registry import build, get

MOST_IN_RANK_1 = 5


def image_training(seed: int = 5, **overrides: object) -> ImageTraining:
    """LeNet-5 on 160 digits, in batches that two ranks share unequally."""
    train, validation = digit_pixels(160), digit_pixels(81, seed=1)
    recipe = read_recipe({**SMALL_RECIPE, "batch_size": 25, **overrides})
    seed_everything(seed, "network")
    return ImageTraining(
        build("lenet5", num_classes=10),
        default_preprocessing(get("lenet5")),
        10,
        *train,
        *validation,
        recipe,
        "full",
        pretrained=False,
        seed=seed,
    )


def greedy(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """In rank 1 a GPU's memory ends at five images while it learns."""
    if torch.is_grad_enabled() and torch.distributed.get_rank() == 1 and len(inputs[0]) > MOST_IN_RANK_1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def broken(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
    if torch.distributed.get_rank() == 1:
        raise ValueError("this rank's device is broken")


def rank_processes(trainer: int) -> dict[int, int]:
    """The ranks that the process with the id `trainer` has started: their numbers and process ids."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == trainer and b"models.training.rank" in command:
            found[int(command[command.index(b"models.training.rank") + 1])] = int(folder.name)
    return found


def lives(pid: int) -> bool:
    """Whether it runs or is stopped; one that has ended and that nobody has asked about does not live."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
