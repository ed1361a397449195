"""Training batches, on the device and ready for the network. Knows no network.

Which images a batch holds and how they are augmented depends on the seed, the epoch and the batch's number alone:
not on how many processes prepare it, and not on whether the training was resumed in between.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.normalise import Normalise
from models.training.augment import Mix, Transform
from models.training.pixels import Pixels
from models.training.seeds import derive_seed

Batch = tuple[Tensor, Tensor]


class Batches(Protocol):
    """Training batches: network inputs float32 [b, ...] and targets, int64 [b] or float32 [b, classes]."""

    def __len__(self) -> int: ...
    def epoch(self, epoch: int, start: int) -> Iterator[Batch]: ...


class EpochBatchSampler:
    """Which images make up each batch of an epoch, as lists of indices.

    Every image once, shuffled; or, with `weights`, as many draws with replacement, in proportion to them. A last
    batch of a single image joins the one before it: batch normalisation cannot learn from one.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int, weights: Tensor | None = None) -> None:
        self.count, self.batch_size, self.seed, self.weights = count, batch_size, seed, weights

    def __len__(self) -> int:
        return max(1, (self.count + self.batch_size - 1) // self.batch_size - self._joined)

    @property
    def _joined(self) -> int:
        return int(self.count > self.batch_size > 1 and self.count % self.batch_size == 1)

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


class ImageBatches:
    """Augmented training images. `workers` processes prepare them; 0 prepares in this one."""

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
    ) -> None:
        self.data = _AugmentedImages(pixels, targets, transform, sampler.seed)
        self.sampler, self.normalise, self.mix = sampler, normalise.to(device), mix
        self.device, self.workers = device, workers

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of epoch `epoch` from number `start` on."""
        wanted = [[(epoch, index) for index in batch] for batch in self.sampler.epoch(epoch)[start:]]
        loader = DataLoader(
            self.data,
            batch_sampler=wanted,
            num_workers=self.workers,
            multiprocessing_context="spawn" if self.workers else None,
            # The loader draws a seed for its workers from this generator; without it, it would draw from the
            # global one, and a resumed epoch would go on with other numbers.
            generator=torch.Generator().manual_seed(0),
        )
        for images, targets in loader:
            inputs = self.normalise(images.permute(0, 2, 3, 1).to(self.device, non_blocking=True))
            labels = targets.to(self.device)
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

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive_seed(self.sampler.seed, "view", epoch))
        view = torch.randint(len(self.views), (self.sampler.count,), generator=generator)
        for batch in self.sampler.epoch(epoch)[start:]:
            index = torch.tensor(batch)
            yield self.views[view[index], index], self.targets[index]
