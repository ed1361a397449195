"""A batch depends on seed, epoch and place alone: not on processes, and not on where an epoch was resumed."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from support.gpu import needs_gpu
from support.teaching import CPU

from models.normalise import Normalise
from models.spec import Preprocessing
from models.training.augment import train_transform
from models.training.balance import class_weights, sampling_weights
from models.training.batches import EpochBatchSampler, FeatureBatches, ImageBatches
from models.training.pixels import Pixels
from models.training.recipe import DEFAULT

VIEW = Preprocessing(height=16, width=16, resize=18)


def image_batches(workers: int = 0, device: torch.device = CPU) -> ImageBatches:
    pixels = np.random.default_rng(0).integers(0, 255, (21, 18, 18, 3), np.uint8)
    return ImageBatches(
        Pixels(pixels),
        np.arange(21, dtype=np.int64) % 3,
        train_transform(DEFAULT.augmentation, VIEW, None),
        EpochBatchSampler(21, 8, seed=3),
        normalise=Normalise(VIEW),
        device=device,
        workers=workers,
    )


def test_every_image_comes_once_in_an_epoch() -> None:
    order = EpochBatchSampler(21, 8, seed=0)
    batches = order.epoch(0)
    assert [len(batch) for batch in batches] == [8, 8, 5]
    assert sorted(index for batch in batches for index in batch) == list(range(21))
    assert len(order) == 3
    assert order.epoch(0) == batches != order.epoch(1)


@pytest.mark.parametrize(("count", "sizes"), [(17, [8, 9]), (16, [8, 8]), (1, [1]), (9, [9])])
def test_a_single_image_joins_the_batch_before_it(count: int, sizes: list[int]) -> None:
    order = EpochBatchSampler(count, 8, seed=0)
    assert [len(batch) for batch in order.epoch(0)] == sizes
    assert len(order) == len(sizes)


def test_an_epoch_can_be_begun_in_its_middle() -> None:
    whole = list(image_batches().epoch(2, 0))
    torch.manual_seed(123)
    rest = list(image_batches().epoch(2, 1))
    assert len(rest) == 2
    for (inputs, targets), (again, targets_again) in zip(whole[1:], rest, strict=True):
        assert torch.equal(inputs, again)
        assert torch.equal(targets, targets_again)


def test_epochs_vary_images_differently() -> None:
    first, second = (torch.cat([inputs for inputs, _ in image_batches().epoch(epoch, 0)]) for epoch in (0, 1))
    assert not torch.equal(first.sum(), second.sum())


def test_drawing_variations_leaves_the_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(image_batches().epoch(0, 0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_other_processes_prepare_the_same_batches_in_every_epoch_and_end_with_them() -> None:
    here, there = image_batches(), image_batches(workers=2)
    processes = []
    for epoch, start in ((0, 0), (1, 0), (2, 1)):
        for (ours, _), (theirs, _) in zip(here.epoch(epoch, start), there.epoch(epoch, start), strict=True):
            assert torch.equal(ours, theirs)
        processes.append(loaders())
    assert len(processes[0]) == 2
    assert processes[0] == processes[1] == processes[2]
    del there
    assert loaders() == set()


def test_what_loaders_are_forked_from_can_be_started_before() -> None:
    # In a process of its own: this one may have such a server from another test already, with other modules.
    code = (
        "import psutil; from models.training.batches import get_ready_to_load; get_ready_to_load(); "
        "print([' '.join(child.cmdline()) for child in psutil.Process().children()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "forkserver" in done.stdout
    assert "models.training.batches" in done.stdout


def loaders() -> set[int]:
    """The processes that load images for this one, which start as forks of another."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.parent().pid != os.getpid() and child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found


@needs_gpu
def test_batches_on_a_gpu_are_those_on_a_cpu() -> None:
    for here, there in zip(
        image_batches().epoch(0, 0), image_batches(workers=2, device=torch.device("cuda")).epoch(0, 0), strict=True
    ):
        assert there[0].device.type == "cuda"
        torch.testing.assert_close(there[0].cpu(), here[0])
        assert torch.equal(there[1].cpu(), here[1])


def test_a_balanced_sampler_draws_every_class_alike() -> None:
    targets = np.array([0] * 90 + [1] * 10, dtype=np.int64)
    weights = sampling_weights("sampler", targets)
    order = EpochBatchSampler(100, 100, seed=0, weights=weights)
    drawn = np.concatenate([targets[order.epoch(epoch)[0]] for epoch in range(20)])
    assert 0.45 < drawn.mean() < 0.55
    assert sampling_weights("none", targets) is None


def test_class_weights_make_every_class_count_alike() -> None:
    targets = np.array([0] * 90 + [1] * 10, dtype=np.int64)
    weights = class_weights("weights", targets, 2, CPU)
    assert weights is not None
    assert torch.allclose(weights * torch.tensor([90.0, 10.0]), torch.tensor([50.0, 50.0]))
    assert class_weights("none", targets, 2, CPU) is None


def test_features_show_one_view_of_each_image_per_epoch() -> None:
    views = torch.arange(3).view(3, 1, 1).expand(3, 10, 1) * 100.0 + torch.arange(10).view(1, 10, 1)
    batches = FeatureBatches(views, np.arange(10, dtype=np.int64), EpochBatchSampler(10, 4, seed=1), CPU)
    shown, targets = (torch.cat(parts) for parts in zip(*batches.epoch(0, 0), strict=True))
    assert sorted(targets.tolist()) == list(range(10))
    assert torch.equal(shown[:, 0] % 100, targets.float())
    assert len({int(value) // 100 for value in shown[:, 0]}) > 1
    assert torch.equal(torch.cat([inputs for inputs, _ in batches.epoch(0, 1)]), shown[4:])
