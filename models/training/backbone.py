"""A frozen backbone that computes features: by torch on its device, or by ONNX Runtime on the processor's cores.

On a CPU ONNX Runtime takes a quarter of torch's time, for features within the tolerance of the parity gate.
"""

import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.artifact import software_versions
from models.devices import RUNTIME_ERRORS, open_session, runtime_reason
from models.errors import PredictionFailed
from models.normalise import Normalise
from models.spec import INPUT, Preprocessing
from models.training.checkpoint import weights_sha256
from models.training.errors import OutOfMemory
from models.training.precision import one_thread, out_of_memory

# On a CPU a small batch stays in the cache (measured: half the time per image of 64 at once).
BATCH = {"cpu": 8, "cuda": 64}
FAILURES: tuple[type[Exception], ...] = (MemoryError, *RUNTIME_ERRORS)


class Backbone(Protocol):
    """Whose features they are: `identity` depends on everything that could make them others."""

    @property
    def identity(self) -> str: ...
    def features(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """Of images uint8 [height, width, 3] in their order, float32 [b, ...] on the CPU, some at a time.

        Raises OutOfMemory when not even one image fits.
        """
        ...


def identity_of(backbone: nn.Module, preprocessing: Preprocessing) -> str:
    """Depends on the values of every weight, on the layers between them, and on the preprocessing."""
    weights = weights_sha256(dict(backbone.state_dict()))
    return f"{weights}/{backbone}/{json.dumps(preprocessing.to_dict(), sort_keys=True)}"


class TorchBackbone:
    """A module in evaluation mode on its device."""

    def __init__(self, module: nn.Module, preprocessing: Preprocessing, device: torch.device) -> None:
        self._module, self._device = module.to(device).eval(), device
        self._normalise = Normalise(preprocessing).to(device)
        self.identity = identity_of(module, preprocessing)

    @torch.inference_mode()
    def features(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Backbone`."""
        size = BATCH[self._device.type]
        for batch in _batched(images, size):
            start = 0
            while start < len(batch):
                part = torch.stack(batch[start : start + size])
                try:
                    found = self._module(self._normalise(part.to(self._device))).float().cpu()
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    if size == 1:
                        raise OutOfMemory(f"one image does not fit into the memory of {self._device}") from error
                    size //= 2
                    continue
                start += len(part)
                yield found


@dataclass(frozen=True)
class OnnxBackbone:
    """A backbone's graph, as `models.backbone_graph` writes it, run by `threads` threads at once.

    Each call has one thread, so that what it computes does not depend on how many there are. Meanwhile the
    caller's thread makes the next images, and torch is kept to that one.
    """

    graph: Path
    of: str
    threads: int

    @property
    def identity(self) -> str:
        versions = software_versions()
        return f"{self.of}/onnxruntime {versions.get('onnxruntime-gpu') or versions.get('onnxruntime')}"

    def features(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Backbone`."""
        session = open_session(self.graph, device="cpu", intra_threads=1).session

        def run(batch: NDArray[np.uint8]) -> Tensor:
            (found,) = self._run(session, batch)
            return torch.from_numpy(found)

        running: deque[Future[Tensor]] = deque()
        with one_thread(), ThreadPoolExecutor(self.threads, thread_name_prefix="features") as pool:
            for batch in _batched(images, BATCH["cpu"]):
                running.append(pool.submit(run, torch.stack(batch).numpy()))
                if len(running) > 2 * self.threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def _run(self, session: Any, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        try:
            return list(session.run(None, {INPUT: batch}))
        except FAILURES as error:
            reason = runtime_reason(error, self.graph)
            if "alloc" not in reason.lower() and not isinstance(error, MemoryError):
                raise PredictionFailed(f"ONNX Runtime failed on {len(batch)} images: {reason}") from error
        if len(batch) == 1:
            raise OutOfMemory("one image does not fit into the memory of cpu")
        halves = [self._run(session, half)[0] for half in np.array_split(batch, 2)]
        return [np.concatenate(halves)]


def _batched(images: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    rest = iter(images)
    while batch := list(itertools.islice(rest, size)):
        yield batch
