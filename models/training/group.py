"""The processes that train one network together, as the loop sees them: one alone, or ranks with a device each.

Every rank takes its share of each batch and of the validation images. Gradients, sums and logits are those of all
of them, so all ranks decide alike. Knows no data and does not know who started the ranks.
"""

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

# With this many images for a device its own statistics are as good as those of the whole batch (Goyal et al. 2017
# train with 32); with fewer they are noise (Wu and Johnson 2021), and the devices share theirs.
ENOUGH_TO_NORMALISE = 32


class Group(Protocol):
    """`size` ranks, of which this is number `rank`, counted from 0."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def wrap(self, network: nn.Module, batch_size: int, shape: tuple[int, ...]) -> nn.Module: ...
    def part(self, network: nn.Module, *, last: bool) -> AbstractContextManager[object]: ...
    def sums(self, *values: float) -> tuple[float, ...]: ...
    def rows(self, mine: NDArray[np.float32], count: int) -> NDArray[np.float32]: ...
    def agree_on_statistics(self, network: nn.Module) -> None: ...


class Alone:
    """One process that does it all."""

    rank, size = 0, 1

    def wrap(self, network: nn.Module, batch_size: int, shape: tuple[int, ...]) -> nn.Module:  # noqa: ARG002
        return network

    def part(self, network: nn.Module, *, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002
        return nullcontext()

    def sums(self, *values: float) -> tuple[float, ...]:
        return values

    def rows(self, mine: NDArray[np.float32], count: int) -> NDArray[np.float32]:  # noqa: ARG002
        return mine

    def agree_on_statistics(self, network: nn.Module) -> None:
        pass


class Ranks:
    """This process as one of several, over `torch.distributed`.

    Gradients travel by NCCL between GPUs; everything else, and all of it on a CPU, by gloo.
    """

    def __init__(self, store: TCPStore, rank: int, size: int, device: torch.device, timeout_s: float) -> None:
        self.rank, self.size, self._device = rank, size, device
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_s),
        )

    def wrap(self, network: nn.Module, batch_size: int, shape: tuple[int, ...]) -> nn.Module:
        """The network, in training mode, such that its gradients are the mean of all ranks'.

        `batch_size` is that of all ranks, `shape` that of one input.
        """
        # Looking for them in every step would cost each of them a walk through the graph.
        some_unused = leaves_parameters_unused(network, shape, self._device)
        if wants_shared_statistics(network, self._device, batch_size // self.size):
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(
            network,
            device_ids=[self._device] if self._device.type == "cuda" else None,
            # Running statistics act in evaluation alone, before which rank 0's are everybody's.
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=some_unused,
        )

    def part(self, network: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Around one of the parts that a batch goes through in: gradients travel with the last."""
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        held_back: AbstractContextManager[object] = network.no_sync()
        return held_back

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value's sum over the ranks, the same to the bit on all of them."""
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def largest(self, value: int) -> int:
        """The largest of the ranks' values."""
        found = torch.tensor([value])
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def rows(self, mine: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """All `count` rows in order, of which `mine`, float32 [share, n], are this rank's share."""
        shares = [share_of(count, rank, self.size) for rank in range(self.size)]
        longest = max(share.stop - share.start for share in shares)
        padded = torch.zeros(longest, mine.shape[1])
        padded[: len(mine)] = torch.from_numpy(mine)
        found = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(found, padded)
        whole = torch.cat([rows[: share.stop - share.start] for rows, share in zip(found, shares, strict=True)])
        return whole.numpy()

    def agree_on_statistics(self, network: nn.Module) -> None:
        """Gives every rank the buffers of rank 0, which are those that a checkpoint holds."""
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)

    def close(self) -> None:
        dist.destroy_process_group()


def share_of(count: int, rank: int, size: int) -> slice:
    """Which of `count` things in a row are that rank's: every one is some rank's, and no share is larger by 2."""
    return slice(count * rank // size, count * (rank + 1) // size)


def wants_shared_statistics(network: nn.Module, device: torch.device, images: int) -> bool:
    """Whether batch normalisation that learns sees too few images, `images`, on each device alone."""
    # PyTorch shares statistics between GPUs only.
    return device.type == "cuda" and images < ENOUGH_TO_NORMALISE and bool(_learning_statistics(network))


def leaves_parameters_unused(network: nn.Module, shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether there are parameters that learn, but that no step of the network in training mode comes by."""
    normalisations = _learning_statistics(network)
    for module in normalisations:
        # Their running statistics must not see this.
        module.eval()
    output = network(torch.zeros(2, *shape, device=device))
    outputs = [output] if isinstance(output, torch.Tensor) else [part for part in output if part is not None]
    torch.stack([part.float().sum() for part in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    found = any(p.requires_grad and p.grad is None for p in network.parameters())
    network.zero_grad(set_to_none=True)
    for module in normalisations:
        module.train()
    return found


def _learning_statistics(network: nn.Module) -> list[nn.Module]:
    kind = nn.modules.batchnorm._BatchNorm
    return [module for module in network.modules() if isinstance(module, kind) and module.training]
