"""The engine that a worker's settings describe, over the artifacts among the blobs."""

from models.artifact import checksums
from storage.blobs import BlobStore
from storage.cache import FolderCache
from workers.inference.engine import Engine
from workers.inference.loaded import LoadedModels
from workers.inference.loader import PredictorLoader
from workers.inference.quarantine import Quarantine
from workers.inference.sketches import model_sketcher
from workers.settings import WorkerSettings


def open_engine(
    settings: WorkerSettings,
    blobs: BlobStore,
    memory_budget: int,
    quarantine: Quarantine,
    *,
    sketches: bool = False,
) -> Engine:
    """Nothing is loaded yet; `memory_budget` is in bytes. `sketches`: what is answered is looked at for drift."""
    folders = FolderCache(blobs, settings.cache / "blobs", settings.artifact_cache_bytes)
    models = LoadedModels(
        PredictorLoader(
            lambda artifact: folders.hold(artifact, checksums),
            device=settings.device,
            intra_op_threads=settings.intra_op_threads,
            cuda_memory_bytes=settings.cuda_memory_bytes,
            cuda_tf32=settings.cuda_tf32,
            engines=settings.cache / "tensorrt",
            precision=settings.precision,
            quarantine=quarantine,
        ),
        memory_budget,
        model_sketcher if sketches else None,
    )
    return Engine(models, settings.concurrent_inferences, settings.max_pixels)


def bulk_memory(settings: WorkerSettings) -> int:
    """The bulk process's part of the budget of loaded models: a job needs one, and can wait for its loading."""
    return settings.model_memory_bytes // 4
