"""The predictor beside raw ONNX Runtime: the same graph, the same device, one after the other in each round."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.artifact import MODEL
from models.devices import CPU, CUDA
from models.predictor import INPUT, OUTPUTS, Predictor

SEED = 0
WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Served:
    """Images a second of one round at one batch; `difference` is the largest between the logits of both."""

    batch: int
    provider: str
    predictor: float
    copied: float
    resident: float
    difference: float

    @property
    def of_copied(self) -> float:
        return self.predictor / self.copied

    @property
    def of_resident(self) -> float:
        return self.predictor / self.resident


def measure_serving(
    artifact: Path, device: str, batches: Sequence[int], seconds: float, rounds: int
) -> list[Served]:
    """Each batch in each round. Raises what the predictor raises where the device cannot be used."""
    predictor = Predictor(artifact, device=device)  # type: ignore[arg-type]
    raw = RawSession(artifact / MODEL, device)
    view = predictor.preprocessing
    pixels = np.random.default_rng(SEED).integers(
        0, 256, (max(batches), view.height, view.width, 3), dtype=np.uint8
    )
    found = []
    for _ in range(rounds):
        for batch in batches:
            images = pixels[:batch]
            copied, resident = raw.copying(images), raw.resident(images)
            difference = float(np.abs(predictor.predict(images).logits - raw.logits(images)).max())
            rates = [
                batch * runs_a_second(run, seconds)
                for run in (lambda images=images: predictor.predict(images), copied, resident)  # type: ignore[misc]
            ]
            found.append(Served(batch, predictor.provider, *rates, difference))
    return found


def runs_a_second(run: Callable[[], object], seconds: float) -> float:
    for _ in range(WARM_UP_RUNS):
        run()
    began, runs = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds or not runs:
        run()
        runs += 1
    return runs / max(spent, time.perf_counter() - began)


class RawSession:
    """ONNX Runtime with its own settings, and what goes in and comes out bound."""

    def __init__(self, model: Path, device: str) -> None:
        self._device = device
        options = onnxruntime.SessionOptions()
        if device == "cpu":
            # As the predictor has it: a limit of one thread.
            options.intra_op_num_threads = 1
        providers = [CUDA, CPU] if device == "cuda" else [CPU]
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=providers)
        if self._session.get_providers()[0] != providers[0]:
            raise RuntimeError(f"raw ONNX Runtime runs on {self._session.get_providers()}, not on {providers[0]}")

    def copying(self, images: NDArray[np.uint8]) -> Callable[[], object]:
        """A run that takes pixels from the processor's memory and brings both outputs there."""

        def run() -> object:
            binding = self._session.io_binding()
            binding.bind_cpu_input(INPUT, images)
            for name in OUTPUTS:
                binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding)
            return binding.copy_outputs_to_cpu()

        return run

    def resident(self, images: NDArray[np.uint8]) -> Callable[[], object]:
        """A run whose pixels and outputs stay on the device."""
        binding = self._session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(images, self._device, 0)
        binding.bind_ortvalue_input(INPUT, value)
        for name in OUTPUTS:
            binding.bind_output(name, self._device)

        def run() -> object:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return None

        return run

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (found,) = self._session.run([OUTPUTS[0]], {INPUT: images})
        return np.asarray(found, np.float32)
