"""The predictor beside raw ONNX Runtime: the same graph, numbers and device, in turns within each round."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.artifact import FLOAT32, model_file
from models.devices import CPU, CUDA
from models.predictor import Predictor
from models.spec import INPUT, OUTPUTS
from system.cores import usable_cores

SEED = 0
WARM_UP_RUNS = 3
SIZES_IN_TURN = (1, 9, 3, 16, 2)


@dataclass(frozen=True)
class Served:
    """Images a second of one round at one batch, computed in `numbers`.

    `difference` is the largest between the logits of both, `from_cpu` between the predictor's and those of the
    float32 graph on the CPU.
    """

    numbers: str
    batch: int
    provider: str
    predictor: float
    copied: float
    resident: float
    difference: float
    from_cpu: float

    @property
    def of_copied(self) -> float:
        return self.predictor / self.copied

    @property
    def of_resident(self) -> float:
        return self.predictor / self.resident


@dataclass(frozen=True)
class InTurn:
    """Images a second of batches whose sizes change from one to the next, as requests make them."""

    numbers: str
    predictor: float
    raw: float


@dataclass(frozen=True)
class Numbers:
    """What a graph is computed in: the precision of its file, and whether CUDA may round float32 to TF32."""

    name: str
    precision: str
    tf32: bool = False


ON_CUDA = (Numbers("float32", FLOAT32), Numbers("TF32", FLOAT32, tf32=True), Numbers("fp16", "fp16", tf32=True))
ON_CPU = ON_CUDA[:1]


def measure_serving(
    artifact: Path, device: str, batches: Sequence[int], seconds: float, rounds: int
) -> list[Served]:
    """Each of the device's numbers and each batch in each round; `artifact` has a variant in fp16.

    Raises what the predictor raises where the device cannot be used.
    """
    pairs = _opened(artifact, device)
    view = pairs[0][1].preprocessing
    pixels = np.random.default_rng(SEED).integers(
        0, 256, (max(batches), view.height, view.width, 3), dtype=np.uint8
    )
    expected = Predictor(artifact, device="cpu", intra_threads=usable_cores()).predict(pixels).logits
    found = []
    for _ in range(rounds):
        for numbers, predictor, raw in pairs:
            for batch in batches:
                images = pixels[:batch]
                copied, resident = raw.copying(images), raw.resident(images)
                logits = predictor.predict(images).logits
                rates = [
                    batch * runs_a_second(run, seconds)
                    for run in (lambda p=predictor, i=images: p.predict(i), copied, resident)  # type: ignore[misc]
                ]
                difference = float(np.abs(logits - raw.logits(images)).max())
                from_cpu = float(np.abs(logits - expected[:batch]).max())
                found.append(Served(numbers.name, batch, predictor.provider, *rates, difference, from_cpu))
    return found


def measure_in_turn(artifact: Path, device: str, seconds: float) -> list[InTurn]:
    """Once in each of the device's numbers."""
    found = []
    for numbers, predictor, raw in _opened(artifact, device):
        view = predictor.preprocessing
        batches = [np.zeros((size, view.height, view.width, 3), np.uint8) for size in SIZES_IN_TURN]
        copying = [raw.copying(images) for images in batches]
        rates = [
            sum(SIZES_IN_TURN) * runs_a_second(run, seconds)
            for run in (
                lambda p=predictor, b=batches: [p.predict(images) for images in b],  # type: ignore[misc]
                lambda c=copying: [run() for run in c],  # type: ignore[misc]
            )
        ]
        found.append(InTurn(numbers.name, *rates))
    return found


def _opened(artifact: Path, device: str) -> list[tuple[Numbers, Predictor, "RawSession"]]:
    return [
        (
            numbers,
            Predictor(artifact, precision=numbers.precision, device=device, tf32=numbers.tf32),  # type: ignore[arg-type]
            RawSession(artifact / model_file(numbers.precision), device, tf32=numbers.tf32),
        )
        for numbers in (ON_CUDA if device == "cuda" else ON_CPU)
    ]


def runs_a_second(run: Callable[[], object], seconds: float) -> float:
    for _ in range(WARM_UP_RUNS):
        run()
    began, runs = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds or not runs:
        run()
        runs += 1
    return runs / max(spent, time.perf_counter() - began)


class RawSession:
    """ONNX Runtime with its own settings, but for the numbers, and what goes in and comes out bound."""

    def __init__(self, model: Path, device: str, *, tf32: bool) -> None:
        self._device = device
        options = onnxruntime.SessionOptions()
        if device == "cpu":
            # As the predictor has it: a limit of one thread.
            options.intra_op_num_threads = 1
        providers: list[Any] = [(CUDA, {"use_tf32": str(int(tf32))}), CPU] if device == "cuda" else [CPU]
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=providers)
        if self._session.get_providers()[0] != (expected := CUDA if device == "cuda" else CPU):
            raise RuntimeError(f"raw ONNX Runtime runs on {self._session.get_providers()}, not on {expected}")

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
