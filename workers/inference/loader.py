"""How an engine loads a model: its files brought here, and one that ended workers tried elsewhere before."""

import weakref
from collections.abc import Callable
from pathlib import Path

from models.devices import Device
from models.errors import ArtifactNotFound, ModelQuarantined
from models.predictor import Predictor
from models.trial import try_model
from storage.cache import HeldFolder
from storage.errors import NotFound
from workers.inference.quarantine import Quarantine, model


def predictor_loader(
    hold: Callable[[str], HeldFolder],
    *,
    device: Device,
    intra_op_threads: int,
    cuda_memory_bytes: int,
    quarantine: Quarantine | None = None,
) -> Callable[[str], Predictor]:
    """How an engine loads artifacts: `hold` brings the artifact's folder here and keeps it while it is loaded.

    One that `quarantine` suspects is tried in a process of its own before.
    """
    gpu_mem_limit = cuda_memory_bytes or None

    def try_first(artifact: str, folder: Path, quarantine: Quarantine) -> None:
        reason = try_model(folder, device=device, intra_threads=intra_op_threads, gpu_mem_limit=gpu_mem_limit)
        if reason is None:
            quarantine.clear(model(artifact))
        else:
            quarantine.convict(model(artifact), reason)
            raise ModelQuarantined(reason)

    def load(artifact: str) -> Predictor:
        is_suspected = quarantine is not None and quarantine.is_model_suspected(artifact)
        try:
            held = hold(artifact)
        except NotFound as error:
            raise ArtifactNotFound("the version's files are gone from the store") from error
        try:
            if quarantine is not None and is_suspected:
                try_first(artifact, held.path, quarantine)
            predictor = Predictor(
                held.path, device=device, intra_threads=intra_op_threads, gpu_mem_limit=gpu_mem_limit
            )
        except BaseException:
            held.release()
            raise
        # A model that is loaded is in use, however long ago its files were read: another copy goes from the disk.
        weakref.finalize(predictor, held.release)
        return predictor

    return load
