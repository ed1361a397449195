"""How an engine loads a model: its files brought here, and one that ended workers tried elsewhere before."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.artifact import FLOAT32, PrecisionChoice, read_manifest, served_precisions
from models.devices import Device
from models.errors import ArtifactNotFound, ModelQuarantined
from models.predictor import Predictor
from models.trial import try_model
from storage.cache import HeldFolder
from storage.errors import NotFound
from workers.inference.precision import AUTO, load_fastest
from workers.inference.quarantine import Quarantine, model


@dataclass(frozen=True)
class PredictorLoader:
    """Loads artifacts for an engine: `hold` brings the artifact's folder here and keeps it while it is loaded.

    One that `quarantine` suspects is tried in a process of its own before. `precision` is what the worker serves
    where a version has it and nobody asks for another; `auto` is the fastest. In `engines` TensorRT keeps what it
    has built.
    """

    hold: Callable[[str], HeldFolder]
    device: Device
    intra_op_threads: int
    cuda_memory_bytes: int
    cuda_tf32: bool = False
    engines: Path | None = None
    precision: PrecisionChoice = AUTO
    quarantine: Quarantine | None = None

    def __call__(self, artifact: str, precision: str = "") -> Predictor:
        """In `precision`, or in the worker's choice where that is empty.

        Raises what `Predictor` raises, ModelQuarantined, and ArtifactNotFound where the files are gone.
        """
        is_suspected = self.quarantine is not None and self.quarantine.is_model_suspected(artifact)
        try:
            held = self.hold(artifact)
        except NotFound as error:
            raise ArtifactNotFound("the version's files are gone from the store") from error
        try:
            asked = precision or self.precision
            precisions = served_precisions(read_manifest(held.path).variants)
            if self.quarantine is not None and is_suspected:
                self._try_first(artifact, held.path, precisions, self.quarantine)
            if asked == AUTO:
                predictor = load_fastest(precisions, lambda each: self._load(held.path, each))
            else:
                predictor = self._load(held.path, asked if precision or asked in precisions else FLOAT32)
        except BaseException:
            held.release()
            raise
        # A model that is loaded is in use, however long ago its files were read: another copy goes from the disk.
        weakref.finalize(predictor, held.release)
        return predictor

    def _load(self, folder: Path, precision: str) -> Predictor:
        return Predictor(
            folder,
            precision=precision,
            device=self.device,
            intra_threads=self.intra_op_threads,
            gpu_mem_limit=self.cuda_memory_bytes or None,
            tf32=self.cuda_tf32,
            engines=self.engines,
        )

    def _try_first(self, artifact: str, folder: Path, precisions: tuple[str, ...], quarantine: Quarantine) -> None:
        reason = try_model(
            folder,
            precisions,
            device=self.device,
            intra_threads=self.intra_op_threads,
            gpu_mem_limit=self.cuda_memory_bytes or None,
        )
        if reason is None:
            quarantine.clear(model(artifact))
        else:
            quarantine.convict(model(artifact), reason)
            raise ModelQuarantined(reason)
