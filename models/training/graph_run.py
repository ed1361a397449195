"""Images through an exported graph, a batch at a time: on the processor's cores, or on a GPU."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.devices import CPU, RUNTIME_ERRORS, Device, open_session, runtime_reason
from models.errors import PredictionFailed
from models.sessions import filled_up
from models.spec import INPUT
from models.training.errors import OutOfMemory
from models.training.precision import one_thread

# On a CPU a small batch stays in the cache (measured: half the time per image of 64 at once).
CPU_BATCH, GPU_BATCH = 8, 64
FAILURES: tuple[type[Exception], ...] = (MemoryError, *RUNTIME_ERRORS)

Outputs = list[NDArray[np.float32]]


def run_graph(
    graph: Path, outputs: Sequence[str], images: Iterable[Tensor], *, threads: int, device: Device = "cpu"
) -> Iterator[Outputs]:
    """Those outputs for images uint8 [height, width, 3] in their order, float32 [b, ...] each, some at a time.

    On a CPU each of `threads` runs has one thread, so that what it computes does not depend on how many there are.
    Meanwhile the caller's thread makes the next images, and torch is kept to that one. Raises PredictionFailed,
    OutOfMemory where not even one image fits, and DeviceUnavailable.
    """
    opened = open_session(graph, device=device, intra_threads=1)
    is_cpu = opened.provider == CPU
    size = CPU_BATCH if is_cpu else GPU_BATCH

    def run(batch: list[Tensor]) -> Outputs:
        pixels = torch.stack(batch).numpy()
        # A GPU plans anew for each size that it meets.
        whole = pixels if is_cpu else filled_up(pixels, size)
        return [values[: len(pixels)] for values in _run(graph, opened.session, outputs, whole)]

    at_once = threads if is_cpu else 1
    running: deque[Future[Outputs]] = deque()
    with one_thread(), ThreadPoolExecutor(at_once, thread_name_prefix="graph") as pool:
        for batch in batched(images, size):
            running.append(pool.submit(run, batch))
            if len(running) > 2 * at_once:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def batched(images: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    rest = iter(images)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _run(graph: Path, session: Any, outputs: Sequence[str], batch: NDArray[np.uint8]) -> Outputs:
    try:
        return list(session.run(list(outputs), {INPUT: batch}))
    except FAILURES as error:
        reason = runtime_reason(error, graph)
        if "alloc" not in reason.lower() and not isinstance(error, MemoryError):
            raise PredictionFailed(f"ONNX Runtime failed on {len(batch)} images: {reason}") from error
    if len(batch) == 1:
        raise OutOfMemory("one image does not fit into the memory of the device")
    halves = [_run(graph, session, outputs, half) for half in np.array_split(batch, 2)]
    return [np.concatenate(parts) for parts in zip(*halves, strict=True)]
