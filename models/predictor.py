"""A loaded artifact that turns prepared pixels into logits and probabilities. Knows no torch and no queue."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import FLOAT32, Manifest, model_file, read_manifest, served_precisions, verify
from models.devices import (
    CPU,
    CUDA,
    MOST_AT_ONCE,
    RUNTIME_ERRORS,
    TENSORRT,
    Device,
    open_session,
    runtime_reason,
)
from models.errors import (
    ArtifactCorrupt,
    DeviceUnavailable,
    InvalidBatch,
    OutputUnavailable,
    PrecisionUnavailable,
    PredictionFailed,
)
from models.graph import check_graph
from models.sessions import InParts, OfFewSizes, Sessions
from models.spec import INPUT, OUTPUTS, Preprocessing

ACTIVATION_BYTES = "activation_bytes"  # metadata of the graph: what one image's largest layer holds

# A run may open another session, too.
FAILURES: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, DeviceUnavailable, ArtifactCorrupt)

# On a CPU a larger batch is no faster for each image, and its activations stay allocated: MobileNet v2 keeps
# 344 MB after a batch of 32, 87 MB after 8.
CPU_BATCH = 8
# For more than it was told of, TensorRT builds its engine anew.
MOST_IN_A_RUN = {CPU: CPU_BATCH, TENSORRT: MOST_AT_ONCE}
# Measured resident memory of a loaded session over the size of its file: 1.1 to 1.6, the most in the smallest.
MEMORY_OF_WEIGHTS = 1.2


@dataclass(frozen=True)
class Prediction:
    """Both float32 `[n, classes]`; `probabilities` are calibrated and each row sums to 1."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


class Predictor:
    """One version, loaded in one precision. It may run in many threads at once; they share the weights.

    `outputs` are those that it can give; `folder` has the artifact's other files. Raises ArtifactNotFound when it
    holds no complete artifact, PrecisionUnavailable when it has no variant of that precision, ArtifactCorrupt when
    its model is not the published file or does not fit its manifest, DeviceUnavailable when a GPU is asked for and
    cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        precision: str = FLOAT32,
        device: Device = "auto",
        intra_threads: int = 1,
        gpu_mem_limit: int | None = None,
        tf32: bool = False,
        engines: Path | None = None,
        check: bool = True,
    ) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.precision = precision
        file = _file_of(self.manifest, precision)
        if check:
            verify(folder, [file])
        self.folder, self._model = folder, folder / file
        try:
            check_graph(self._model)
            opened = open_session(
                self._model,
                device=device,
                intra_threads=intra_threads,
                gpu_mem_limit=gpu_mem_limit,
                tf32=tf32,
                engines=engines,
            )
            self.memory_bytes = _estimate_memory(self._model, opened.session)
            _check_signature(opened.session, self.manifest, file)
            self.outputs = tuple(value.name for value in opened.session.get_outputs())
        except UnicodeDecodeError as exc:
            raise ArtifactCorrupt(f"{file} has names that are no text: {exc.reason}") from exc
        self.provider = opened.provider
        self._sessions: Sessions | None = InParts(opened.session, MOST_IN_A_RUN.get(self.provider))
        if self.provider == CUDA:
            model = self._model
            self._sessions = OfFewSizes(
                opened.session,
                lambda: open_session(model, device="cuda", gpu_mem_limit=gpu_mem_limit, tf32=tf32).session,
            )
        self.cuda_problem = opened.cuda_problem

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.manifest.preprocessing

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """Logits and probabilities of the images. Raises what `run` raises."""
        return Prediction(*self.run(images, OUTPUTS))

    def run(self, images: NDArray[np.uint8], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """Those outputs of uint8 `[n, height, width, 3]` RGB, n >= 1, as `models.preprocess.prepare` makes them.

        Each is float32 `[n, ...]`. A large batch is run in parts. Raises InvalidBatch for any other array,
        OutputUnavailable for an output that the graph does not give, PredictionFailed when the runtime gives up.
        """
        self._check_batch(images)
        if missing := [name for name in outputs if name not in self.outputs]:
            raise OutputUnavailable(
                f"{self._model.name} gives {', '.join(self.outputs)}; not {', '.join(missing)}"
            )
        sessions = self._sessions
        if sessions is None:
            raise PredictionFailed("the predictor is closed")
        try:
            parts = sessions.run(outputs, INPUT, np.ascontiguousarray(images))
        except FAILURES as exc:
            reason = runtime_reason(exc, self._model)
            raise PredictionFailed(f"{self.provider} failed on a batch of {len(images)}: {reason}") from exc
        each = zip(outputs, zip(*parts, strict=True), strict=True)
        return [self._checked(name, found, len(images)) for name, found in each]

    def warm_up(self, batch_sizes: Iterable[int] = (1,)) -> None:
        """Run empty batches, so that the first request does not pay for allocations and algorithm choice."""
        shape = (self.preprocessing.height, self.preprocessing.width, 3)
        for n in batch_sizes:
            self.predict(np.zeros((n, *shape), np.uint8))

    def close(self) -> None:
        """Free the weights. Runs in progress keep them until they end; later ones raise PredictionFailed."""
        self._sessions = None

    def _checked(self, name: str, parts: Sequence[NDArray[np.float32]], images: int) -> NDArray[np.float32]:
        """The parts as one array; a graph need not keep to the shapes that it declares."""
        sizes = tuple(self.manifest.outputs.get(name, [len(self.labels)]))
        found = [part.shape for part in parts]
        if any(shape[1:] != sizes for shape in found) or sum(shape[0] for shape in found) != images:
            expected = (images, *sizes)
            raise PredictionFailed(
                f"{self._model.name} answered {name} {found} for {images} images; expected {expected} in all"
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _check_batch(self, images: NDArray[np.uint8]) -> None:
        expected = (self.preprocessing.height, self.preprocessing.width, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected or not len(images):
            raise InvalidBatch(
                f"the batch is {images.dtype} {list(images.shape)}; {self.manifest.model} takes uint8 "
                f"[n, {expected[0]}, {expected[1]}, 3] with n >= 1, as models.preprocess.prepare makes it"
            )


def _file_of(manifest: Manifest, precision: str) -> str:
    precisions = served_precisions(manifest.variants)
    if precision not in precisions:
        raise PrecisionUnavailable(
            f"{manifest.model} can be served in {', '.join(precisions)}; not in {precision}"
        )
    return model_file(precision)


def _estimate_memory(model: Path, session: Any) -> int:
    """Weights as they lie in memory, and the activations of one run; more runs at once hold their own."""
    noted = session.get_modelmeta().custom_metadata_map.get(ACTIVATION_BYTES, "")
    activations = int(noted) * CPU_BATCH if noted.isdecimal() else 0
    return int(model.stat().st_size * MEMORY_OF_WEIGHTS) + activations


def _check_signature(session: Any, manifest: Manifest, file: str) -> None:
    inputs = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    outputs = {value.name: (value.type, value.shape) for value in session.get_outputs()}
    kind, shape = inputs.get(INPUT, ("nothing", []))
    expected = [manifest.preprocessing.height, manifest.preprocessing.width, 3]
    if len(inputs) != 1 or kind != "tensor(uint8)" or shape[1:] != expected or not isinstance(shape[0], str):
        raise ArtifactCorrupt(
            f"{file} takes {inputs}; expected {INPUT}: uint8 [batch, {expected[0]}, {expected[1]}, 3]"
        )
    for name in OUTPUTS:
        kind, shape = outputs.get(name, ("nothing", []))
        if kind != "tensor(float)" or shape[1:] != [len(manifest.labels)]:
            raise ArtifactCorrupt(
                f"{file} gives {name}: {kind} {shape}; expected float32 [batch, {len(manifest.labels)}], "
                "one column for each label of the manifest"
            )
