"""A loaded artifact that turns prepared pixels into logits and probabilities. Knows no torch and no queue."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import MODEL, Manifest, read_manifest, verify
from models.devices import CPU, RUNTIME_ERRORS, Device, open_session, runtime_reason
from models.errors import ArtifactCorrupt, InvalidBatch, PredictionFailed
from models.graph import check_graph
from models.spec import Preprocessing

INPUT = "image"
LOGITS, PROBABILITIES, EMBEDDING, FEATURE_MAP = "logits", "probabilities", "embedding", "feature_map"
OUTPUTS = (LOGITS, PROBABILITIES)  # those that every model has
ACTIVATION_BYTES = "activation_bytes"  # metadata of the graph: what one image's largest layer holds

# On a CPU a larger batch is no faster for each image, and its activations stay allocated: MobileNet v2 keeps
# 344 MB after a batch of 32, 87 MB after 8.
CPU_BATCH = 8
# Measured resident memory of a loaded session over the size of its file: 1.1 to 1.6, the most in the smallest.
MEMORY_OF_WEIGHTS = 1.2


@dataclass(frozen=True)
class Prediction:
    """Both float32 `[n, classes]`; `probabilities` are calibrated and each row sums to 1."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


class Predictor:
    """One version, loaded. `predict` may be called from many threads at once; they share the weights.

    Raises ArtifactNotFound when the folder holds no complete artifact, ArtifactCorrupt when its model is not the
    published file or does not fit its manifest, DeviceUnavailable when `device="cuda"` cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: Device = "auto",
        intra_threads: int = 1,
        gpu_mem_limit: int | None = None,
        check: bool = True,
    ) -> None:
        self.manifest: Manifest = verify(folder, [MODEL]) if check else read_manifest(folder)
        self._model = folder / MODEL
        try:
            check_graph(self._model)
            opened = open_session(
                self._model, device=device, intra_threads=intra_threads, gpu_mem_limit=gpu_mem_limit
            )
            self.memory_bytes = _estimate_memory(self._model, opened.session)
            _check_signature(opened.session, self.manifest)
        except UnicodeDecodeError as exc:
            raise ArtifactCorrupt(f"{MODEL} has names that are no text: {exc.reason}") from exc
        self._session: Any = opened.session
        self.provider = opened.provider
        self.cuda_problem = opened.cuda_problem

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.manifest.preprocessing

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """Classify uint8 `[n, height, width, 3]` RGB, n >= 1, as `models.preprocess.prepare` makes them.

        On the CPU a large batch is run in parts. Raises InvalidBatch for any other array, PredictionFailed when
        the runtime gives up.
        """
        self._check_batch(images)
        session = self._session
        if session is None:
            raise PredictionFailed("the predictor is closed")
        step = CPU_BATCH if self.provider == CPU else len(images)
        pixels = np.ascontiguousarray(images)
        try:
            parts = [
                session.run(OUTPUTS, {INPUT: pixels[start : start + step]})
                for start in range(0, len(pixels), step)
            ]
        except RUNTIME_ERRORS as exc:
            reason = runtime_reason(exc, self._model)
            raise PredictionFailed(f"{self.provider} failed on a batch of {len(images)}: {reason}") from exc
        logits, probabilities = (self._checked(outputs, len(pixels)) for outputs in zip(*parts, strict=True))
        return Prediction(logits, probabilities)

    def warm_up(self, batch_sizes: Iterable[int] = (1,)) -> None:
        """Run empty batches, so that the first request does not pay for allocations and algorithm choice."""
        shape = (self.preprocessing.height, self.preprocessing.width, 3)
        for n in batch_sizes:
            self.predict(np.zeros((n, *shape), np.uint8))

    def close(self) -> None:
        """Free the weights. Runs in progress keep them until they end; later ones raise PredictionFailed."""
        self._session = None

    def _checked(self, outputs: Sequence[NDArray[np.float32]], images: int) -> NDArray[np.float32]:
        """The parts as one array; a graph need not keep to the shapes that it declares."""
        expected = (images, len(self.labels))
        found = [output.shape for output in outputs]
        if any(shape[1:] != expected[1:] for shape in found) or sum(shape[0] for shape in found) != images:
            raise PredictionFailed(f"{MODEL} answered {found} for {images} images; expected {expected} in all")
        return np.concatenate(outputs)

    def _check_batch(self, images: NDArray[np.uint8]) -> None:
        expected = (self.preprocessing.height, self.preprocessing.width, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected or not len(images):
            raise InvalidBatch(
                f"the batch is {images.dtype} {list(images.shape)}; {self.manifest.model} takes uint8 "
                f"[n, {expected[0]}, {expected[1]}, 3] with n >= 1, as models.preprocess.prepare makes it"
            )


def _estimate_memory(model: Path, session: Any) -> int:
    """Weights as they lie in memory, and the activations of one run; more runs at once hold their own."""
    noted = session.get_modelmeta().custom_metadata_map.get(ACTIVATION_BYTES, "")
    activations = int(noted) * CPU_BATCH if noted.isdecimal() else 0
    return int(model.stat().st_size * MEMORY_OF_WEIGHTS) + activations


def _check_signature(session: Any, manifest: Manifest) -> None:
    inputs = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    outputs = {value.name: (value.type, value.shape) for value in session.get_outputs()}
    kind, shape = inputs.get(INPUT, ("nothing", []))
    expected = [manifest.preprocessing.height, manifest.preprocessing.width, 3]
    if len(inputs) != 1 or kind != "tensor(uint8)" or shape[1:] != expected or not isinstance(shape[0], str):
        raise ArtifactCorrupt(
            f"{MODEL} takes {inputs}; expected {INPUT}: uint8 [batch, {expected[0]}, {expected[1]}, 3]"
        )
    for name in OUTPUTS:
        kind, shape = outputs.get(name, ("nothing", []))
        if kind != "tensor(float)" or shape[1:] != [len(manifest.labels)]:
            raise ArtifactCorrupt(
                f"{MODEL} gives {name}: {kind} {shape}; expected float32 [batch, {len(manifest.labels)}], "
                "one column for each label of the manifest"
            )
