"""A frozen backbone that computes features: by torch on its device, or by ONNX Runtime on the processor's cores.

On a CPU ONNX Runtime takes a quarter of torch's time, for features within the tolerance of the parity gate.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from models.artifact import software_versions
from models.normalise import Normalise
from models.spec import EMBEDDING, Preprocessing
from models.training.checkpoint import weights_sha256
from models.training.errors import OutOfMemory
from models.training.graph_run import CPU_BATCH, GPU_BATCH, batched, run_graph
from models.training.precision import out_of_memory

BATCH = {"cpu": CPU_BATCH, "cuda": GPU_BATCH}


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
        for batch in batched(images, size):
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
    """A backbone's graph, as `models.backbone_graph` writes it, on the CPU by `threads` threads at once."""

    graph: Path
    of: str
    threads: int

    @property
    def identity(self) -> str:
        versions = software_versions()
        return f"{self.of}/onnxruntime {versions.get('onnxruntime-gpu') or versions.get('onnxruntime')}"

    def features(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """See `Backbone`."""
        for (found,) in run_graph(self.graph, [EMBEDDING], images, threads=self.threads):
            yield torch.from_numpy(found)
