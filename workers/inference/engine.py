"""Loaded models and how a batch runs through one. Knows no Celery and no Redis."""

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.devices import CPU, Device
from models.errors import ArtifactNotFound, ImageError, ImageTooManyPixels
from models.predictor import Predictor
from models.preprocess import prepare
from storage.cache import HeldFolder
from storage.errors import NotFound
from workers.contract.messages import ClassScore, ImageOutcome

# On a CPU a larger batch costs no less for each image. Small parts spread over the cores, and a core that infers
# while another decodes waits for nobody: "decode all, then infer" cost up to 0.9 of 11 ms an image.
CPU_PART = 2


@dataclass
class LoadedModel:
    predictor: Predictor
    users: int = 0
    evicted: bool = False


class PartTimes(NamedTuple):
    """When a part of a batch was begun, decoded and done, by `time.perf_counter`."""

    images: int
    began: float
    decoded: float
    inferred: float


@dataclass
class BatchResult:
    """One outcome per image in the order given, and the times of the parts, which threads shared."""

    outcomes: list[ImageOutcome]
    provider: str
    parts: list[PartTimes]

    @property
    def decode_ms(self) -> float:
        return sum(part.decoded - part.began for part in self.parts) * 1e3

    @property
    def inference_ms(self) -> float:
        return sum(part.inferred - part.decoded for part in self.parts) * 1e3


@dataclass
class Engine:
    """Keeps models loaded within a memory budget and classifies batches with them, from any thread.

    `load` makes a predictor from an artifact's name; it is called once for each artifact however many threads
    wait for it, and the predictor is warmed before it serves. At most `concurrency` inferences run at once, each
    on its own core: on a CPU that yields more than fewer calls with more threads each.
    """

    load: Callable[[str], Predictor]
    concurrency: int
    memory_budget: int
    max_pixels: int
    _models: OrderedDict[str, LoadedModel] = field(default_factory=OrderedDict, init=False)
    _loading: dict[str, Future[LoadedModel]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._decoders = ThreadPoolExecutor(self.concurrency, thread_name_prefix="decode")
        self._runners = ThreadPoolExecutor(self.concurrency, thread_name_prefix="infer")

    def classify(self, artifact: str, images: Sequence[bytes], top_k: int) -> BatchResult:
        """Decode and classify encoded images; one that cannot be decoded has its own error in its own place.

        Raises:
            ArtifactNotFound, ArtifactCorrupt, DeviceUnavailable: the model cannot be loaded.
            PredictionFailed: ONNX Runtime could not run it.
            BlobsUnavailable: its files could not be fetched.
        """
        with self.model(artifact) as predictor:
            size = CPU_PART if predictor.provider == CPU else max(1, len(images))
            parts = [images[start : start + size] for start in range(0, len(images), size)]
            whole = BatchResult([], predictor.provider, [])
            for part in self._runners.map(lambda part: self._classify_part(predictor, part, top_k), parts):
                whole.outcomes += part.outcomes
                whole.parts += part.parts
            return whole

    def loaded(self) -> tuple[str, ...]:
        """The artifacts in memory, least recently used first."""
        with self._lock:
            return tuple(self._models)

    def providers(self) -> tuple[str, ...]:
        """The execution providers that the loaded models really run on."""
        with self._lock:
            return tuple(sorted({held.predictor.provider for held in self._models.values()}))

    @contextmanager
    def model(self, artifact: str) -> Iterator[Predictor]:
        """The artifact's predictor; it is not closed before the block ends, whatever else must be loaded."""
        held = self._acquire(artifact)
        try:
            yield held.predictor
        finally:
            self._release(held)

    def close(self) -> None:
        self._decoders.shutdown()
        self._runners.shutdown()
        with self._lock:
            for held in self._models.values():
                held.predictor.close()
            self._models.clear()

    def _prepare(self, data: bytes, predictor: Predictor) -> NDArray[np.uint8] | ImageError:
        try:
            return prepare(data, predictor.preprocessing, max_pixels=self.max_pixels)
        except ImageError as error:
            return error

    def _classify_part(self, predictor: Predictor, images: Sequence[bytes], top_k: int) -> BatchResult:
        began = time.perf_counter()
        # A GPU's part is the whole batch, and one thread could not decode as quickly as the GPU infers.
        each = map if predictor.provider == CPU else self._decoders.map
        prepared = list(each(lambda data: self._prepare(data, predictor), images))
        decoded = time.perf_counter()
        readable = [pixels for pixels in prepared if not isinstance(pixels, ImageError)]
        scores = iter(_scores(predictor, readable, top_k))
        inferred = time.perf_counter()
        outcomes = [_failure(p) if isinstance(p, ImageError) else ImageOutcome(next(scores)) for p in prepared]
        return BatchResult(outcomes, predictor.provider, [PartTimes(len(images), began, decoded, inferred)])

    def _acquire(self, artifact: str) -> LoadedModel:
        while True:
            with self._lock:
                held = self._models.get(artifact)
                if held:
                    held.users += 1
                    self._models.move_to_end(artifact)
                    return held
                pending = self._loading.get(artifact)
                if pending is None:
                    mine = self._loading[artifact] = Future()
                    break
            # Raises what the loading thread raised; otherwise look again, for it may be evicted already.
            pending.result()
        try:
            predictor = self.load(artifact)
            predictor.warm_up([1, CPU_PART, 8])
        except BaseException as error:
            with self._lock:
                del self._loading[artifact]
            mine.set_exception(error)
            raise
        with self._lock:
            held = self._models[artifact] = LoadedModel(predictor, users=1)
            del self._loading[artifact]
            self._evict(keep=artifact)
        mine.set_result(held)
        return held

    def _evict(self, keep: str) -> None:
        """Drop least recently used models until the rest fits; one in use is closed by its last user."""
        used = sum(held.predictor.memory_bytes for held in self._models.values())
        for artifact in [name for name in self._models if name != keep]:
            if used <= self.memory_budget:
                return
            held = self._models.pop(artifact)
            used -= held.predictor.memory_bytes
            held.evicted = True
            if held.users == 0:
                held.predictor.close()

    def _release(self, held: LoadedModel) -> None:
        with self._lock:
            held.users -= 1
            if held.evicted and held.users == 0:
                held.predictor.close()


def predictor_loader(
    hold: Callable[[str], HeldFolder], *, device: Device, intra_op_threads: int, cuda_memory_bytes: int
) -> Callable[[str], Predictor]:
    """How an engine loads artifacts: `hold` brings the artifact's folder here and keeps it while it is loaded."""

    def load(artifact: str) -> Predictor:
        try:
            held = hold(artifact)
        except NotFound as error:
            raise ArtifactNotFound("the version's files are gone from the store") from error
        try:
            predictor = Predictor(
                held.path,
                device=device,
                intra_threads=intra_op_threads,
                gpu_mem_limit=cuda_memory_bytes or None,
            )
        except BaseException:
            held.release()
            raise
        # A model that is loaded is in use, however long ago its files were read: another copy goes from the disk.
        weakref.finalize(predictor, held.release)
        return predictor

    return load


def _scores(predictor: Predictor, images: Sequence[NDArray[np.uint8]], top_k: int) -> list[tuple[ClassScore, ...]]:
    """The `top_k` best classes of each image, best first; equal probabilities in the order of the classes."""
    if not images:
        return []
    probabilities = predictor.predict(np.stack(images)).probabilities
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        tuple(ClassScore(i, predictor.labels[i], float(row[i])) for i in order)
        for row, order in zip(probabilities, best.tolist(), strict=True)
    ]


def _failure(error: ImageError) -> ImageOutcome:
    code = "image_too_large" if isinstance(error, ImageTooManyPixels) else "image_unreadable"
    return ImageOutcome(error=code, detail=str(error))
