"""Training batches, on the device and ready for the network. Knows no network.

Which images a batch holds and how they are augmented depends on the seed, the epoch and the batch's number alone:
not on how many processes prepare it, and not on whether the training was resumed in between. Where ranks share a
batch, each has its share of the same images.
"""

import multiprocessing
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.normalise import Normalise
from models.training.augment import Mix, Transform
from models.training.group import Alone, Group, share_of
from models.training.pixels import Pixels
from models.training.seeds import derive_seed

Batch = tuple[Tensor, Tensor]


class Batches(Protocol):
    """Training batches: network inputs float32 [b, ...] and targets, int64 [b] or float32 [b, classes].

    `epoch` yields this rank's share of each; `size` counts the images of all ranks in one.
    """

    def __len__(self) -> int: ...
    def size(self, step: int) -> int: ...
    def epoch(self, epoch: int, start: int) -> Iterator[Batch]: ...


class EpochBatchSampler:
    """Which images make up each batch of an epoch, as lists of indices.

    Every image once, shuffled; or, with `weights`, as many draws with replacement, in proportion to them. A last
    batch of a single image for one of the `ranks` that share it joins the one before it: batch normalisation
    cannot learn from one.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, weights: Tensor | None = None, ranks: int = 1
    ) -> None:
        self.count, self.batch_size, self.seed, self.weights = count, batch_size, seed, weights
        self.ranks = ranks

    def __len__(self) -> int:
        return max(1, (self.count + self.batch_size - 1) // self.batch_size - self._joined)

    @property
    def _joined(self) -> int:
        return int(self.count > self.batch_size > 1 and 0 < self.count % self.batch_size < 2 * self.ranks)

    def size(self, step: int) -> int:
        """How many images the batch of that number holds."""
        return self.batch_size if step < len(self) - 1 else self.count - self.batch_size * (len(self) - 1)

    def epoch(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        if self.weights is None:
            drawn = torch.randperm(self.count, generator=generator)
        else:
            drawn = torch.multinomial(self.weights, self.count, replacement=True, generator=generator)
        indices = drawn.tolist()
        starts = range(0, self.count, self.batch_size)[: len(self)]
        return [indices[start : None if start == starts[-1] else start + self.batch_size] for start in starts]


class _AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Items are (epoch, index); each is augmented by a seed of its own, in whatever process."""

    def __init__(self, pixels: Pixels, targets: NDArray[np.int64], transform: Transform, seed: int) -> None:
        self.pixels, self.targets, self.transform, self.seed = pixels, targets, transform, seed

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = item
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(derive_seed(self.seed, "variation", epoch, index))
            image = self.transform(torch.from_numpy(self.pixels[index].copy()).permute(2, 0, 1))
        return image, int(self.targets[index])


class _Wanted:
    """The batches that a loader is to fetch next, each a list of items: its processes outlive an epoch."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _forking() -> BaseContext:
    """Starts processes as forks of one that has torch imported, and no threads: each would take seconds for it."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def get_ready_to_load() -> None:
    """Begins to import what processes that load images need, beside whatever this one does until then."""
    if _forking().get_start_method() == "forkserver":
        forkserver.ensure_running()


class ImageBatches:
    """Augmented training images, in the memory format that the network wants.

    `workers` processes prepare them, until the last reference to this is gone; 0 prepares in this one.
    """

    def __init__(
        self,
        pixels: Pixels,
        targets: NDArray[np.int64],
        transform: Transform,
        sampler: EpochBatchSampler,
        *,
        normalise: Normalise,
        device: torch.device,
        mix: Mix | None = None,
        workers: int = 0,
        group: Group | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.data = _AugmentedImages(pixels, targets, transform, sampler.seed)
        self.sampler, self.normalise, self.mix = sampler, normalise.to(device), mix
        self.device, self.memory_format = device, memory_format
        self.group = group or Alone()
        self._wanted = _Wanted()
        self._loader = DataLoader(
            self.data,
            batch_sampler=self._wanted,
            num_workers=workers,
            multiprocessing_context=_forking() if workers else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            # The loader draws a seed for its workers from this generator; without it, it would draw from the
            # global one, and a resumed epoch would go on with other numbers.
            generator=torch.Generator().manual_seed(0),
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def size(self, step: int) -> int:
        return self.sampler.size(step)

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """This rank's share of the batches of epoch `epoch`, from number `start` on."""
        rank, ranks = self.group.rank, self.group.size
        self._wanted.batches = [
            [(epoch, index) for index in batch[share_of(len(batch), rank, ranks)]]
            for batch in self.sampler.epoch(epoch)[start:]
        ]
        for step, (images, targets) in enumerate(self._loader, start):
            inputs = self.normalise(images.permute(0, 2, 3, 1).to(self.device, non_blocking=True))
            inputs, labels = (
                inputs.contiguous(memory_format=self.memory_format),
                targets.to(self.device, non_blocking=True),
            )
            if ranks > 1:
                # What is drawn for this step, in mixing and in dropout, differs between ranks, and follows from
                # its number: a checkpoint need not hold every rank's generators.
                torch.manual_seed(derive_seed(self.sampler.seed, "step", epoch, step, rank))
            yield self.mix(inputs, labels) if self.mix else (inputs, labels)


class FeatureBatches:
    """Cached features instead of images: float32 [views, n, ...]; each epoch shows one view of each image."""

    def __init__(
        self, views: Tensor, targets: NDArray[np.int64], sampler: EpochBatchSampler, device: torch.device
    ) -> None:
        self.views, self.targets = views.to(device), torch.from_numpy(targets).to(device)
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def size(self, step: int) -> int:
        return self.sampler.size(step)

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive_seed(self.sampler.seed, "view", epoch))
        view = torch.randint(len(self.views), (self.sampler.count,), generator=generator)
        for batch in self.sampler.epoch(epoch)[start:]:
            index = torch.tensor(batch)
            yield self.views[view[index], index], self.targets[index]
