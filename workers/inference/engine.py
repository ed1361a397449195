"""Loaded models and how a batch runs through one. Knows no Celery and no Redis."""

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.cost import COSTLY_PIXELS
from models.decoder_process import DecoderDied, DecoderProcess
from models.devices import CPU
from models.drift.sketch import Sketch
from models.errors import (
    ImageError,
    ImageQuarantined,
    ImageTooCostly,
    ImageTooManyPixels,
    ImageUnreadable,
)
from models.predictor import Predictor
from models.preprocess import prepare
from models.spec import Preprocessing
from workers.contract.messages import ImageOutcome
from workers.inference.answers import Asked, answers
from workers.inference.loaded import LoadedModel, LoadedModels
from workers.inference.parts import split

# The process that decodes apart is started for one image, and kept so long for the next.
DECODER_KEPT_S = 10.0

CODES = {ImageTooManyPixels: "image_too_large", ImageQuarantined: "image_quarantined"}

Result = TypeVar("Result")
Pixels = NDArray[np.uint8]
# Decoded, or why not, or still being decoded apart.
Prepared = Pixels | ImageError | MemoryError | Future[Pixels]


class DeadlinePassed(Exception):
    """Nobody waits for the rest of the batch any more."""


class PartTimes(NamedTuple):
    """When a part of a batch was begun, decoded and done, by `time.perf_counter`."""

    images: int
    began: float
    decoded: float
    inferred: float


@dataclass
class BatchResult:
    """One outcome per image in the order given, and the times of the parts, which threads shared.

    `ended` says of those by their places that ended their decoder how they did. `sketch` is of these images and
    those of batches before; None where it is too early for one."""

    outcomes: list[ImageOutcome]
    provider: str
    precision: str
    parts: list[PartTimes]
    ended: dict[int, str] = field(default_factory=dict)
    sketch: Sketch | None = None

    @property
    def decode_ms(self) -> float:
        return sum(part.decoded - part.began for part in self.parts) * 1e3

    @property
    def inference_ms(self) -> float:
        return sum(part.inferred - part.decoded for part in self.parts) * 1e3


@dataclass(frozen=True)
class _Batch:
    held: LoadedModel
    images: Sequence[bytes]
    asked: Asked
    prepared: bool
    deadline: float | None
    suspects: frozenset[int]
    apart: dict[int, Future[Pixels]] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)

    @property
    def predictor(self) -> Predictor:
        return self.held.predictor

    def check_deadline(self) -> None:
        if self.deadline is not None and time.time() > self.deadline:
            raise DeadlinePassed


@dataclass(frozen=True)
class _Part:
    """Where an image is decoded apart, its outcome says nothing yet."""

    outcomes: list[ImageOutcome]
    times: PartTimes


@dataclass
class Engine:
    """Classifies batches with the loaded `models`, from any thread.

    At most `concurrency` inferences run at once, each on its own core: on a CPU that yields more than fewer calls
    with more threads each. Images of more than `max_pixels` are refused.
    """

    models: LoadedModels
    concurrency: int
    max_pixels: int

    def __post_init__(self) -> None:
        self._decoders = ThreadPoolExecutor(self.concurrency, thread_name_prefix="decode")
        # A part is decoded and inferred by one thread: a core that infers while another decodes waits for nobody.
        # "Decode all, then infer" cost up to 0.9 of 11 ms an image.
        self._runners = ThreadPoolExecutor(self.concurrency, thread_name_prefix="infer")
        # One: of what is costly no more than one core, and the memory for no more than one at a time.
        self._apart = ThreadPoolExecutor(1, thread_name_prefix="apart")
        self._decoder = DecoderProcess()
        self._decoded_apart = 0

    def classify(
        self,
        artifact: str,
        images: Sequence[bytes],
        asked: Asked,
        *,
        precision: str = "",
        prepared: bool = False,
        deadline: float | None = None,
        suspects: Collection[int] = (),
    ) -> BatchResult:
        """Decode and classify encoded images; one that cannot be decoded has its own error in its own place.

        A costly image is decoded apart, in a process of its own, one at a time, while threads go on with the
        others; and so are those at the places `suspects`, which were in hand when a process ended. Where they are
        `prepared`, the images are pixels as `ClassifyBatch` has them, and nothing is decoded. An empty `precision`
        is the worker's choice. `deadline` is in Unix seconds.

        Raises:
            DeadlinePassed: between two images.
            OutputUnavailable: the network has no such output.
            ArtifactNotFound, ArtifactCorrupt, PrecisionUnavailable, DeviceUnavailable: it cannot be loaded.
            PredictionFailed: ONNX Runtime could not run it.
            BlobsUnavailable: its files could not be fetched.
        """
        with self.models.hold(artifact, precision) as held:
            predictor = held.predictor
            batch = _Batch(held, images, asked, prepared, deadline, frozenset(suspects))
            parts = split(len(images), held.part, self.concurrency)
            classifying = [self._runners.submit(self._classify_part, batch, part) for part in parts]
            try:
                # This thread is woken once. Each time it is, it takes turns with those that do the work.
                for ended in wait(classifying, return_when=FIRST_EXCEPTION).done:
                    ended.result()
                done = [part.result() for part in classifying]
                apart = {place: self._classify_decoded(batch, place) for place in sorted(batch.apart)}
            except BaseException:
                # The rest of the batch is not worth anything any more.
                unneeded: list[Future[Any]] = [*classifying, *batch.apart.values()]
                for future in unneeded:
                    future.cancel()
                raise
            times = [part.times for part in done]
            whole = BatchResult([], predictor.provider, predictor.precision, times, batch.ended)
            for part in done:
                whole.outcomes += part.outcomes
            for place, outcome in apart.items():
                whole.outcomes[place] = outcome
            whole.sketch = held.sketcher.take() if held.sketcher else None
            return whole

    def on_a_core(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, from a thread of those that infer: in its turn among the parts of batches."""
        return self._runners.submit(work).result()

    def decode(self, data: bytes, preprocessing: Preprocessing, *, apart: bool) -> Pixels:
        """One image, uint8 `[height, width, 3]`; in a process of its own where it is costly, or to be `apart`.

        Raises ImageError.
        """
        if not apart:
            try:
                return prepare(data, preprocessing, max_pixels=self.max_pixels, max_cost=COSTLY_PIXELS)
            except ImageTooCostly:
                pass
        try:
            return self._apart.submit(self._prepare_apart, data, preprocessing).result()
        except DecoderDied as death:
            raise ImageQuarantined(str(death)) from death

    def close(self) -> None:
        for pool in (self._decoders, self._runners, self._apart):
            pool.shutdown()
        self._decoder.close()
        self.models.close()

    def _prepare(self, batch: "_Batch", place: int) -> Prepared:
        batch.check_deadline()
        data, preprocessing = batch.images[place], batch.predictor.preprocessing
        if batch.prepared:
            return _pixels(data, preprocessing)
        if place not in batch.suspects:
            try:
                return prepare(data, preprocessing, max_pixels=self.max_pixels, max_cost=COSTLY_PIXELS)
            except ImageTooCostly:
                pass
            except (ImageError, MemoryError) as error:
                return error
        batch.apart[place] = self._apart.submit(self._decode_apart, batch, place)
        return batch.apart[place]

    def _decode_apart(self, batch: "_Batch", place: int) -> Pixels:
        """Raises ImageError; ImageQuarantined where it has ended two processes."""
        batch.check_deadline()
        data, preprocessing = batch.images[place], batch.predictor.preprocessing
        try:
            return self._prepare_apart(data, preprocessing)
        except DecoderDied as death:
            if place in batch.suspects:
                raise ImageQuarantined(str(death)) from death
        # The first death may have been the machine's doing.
        try:
            return self._decoder.prepare(data, preprocessing, self.max_pixels)
        except DecoderDied as death:
            raise ImageQuarantined(str(death)) from death

    def _prepare_apart(self, data: bytes, preprocessing: Preprocessing) -> Pixels:
        """Within `_apart`. Raises ImageError and DecoderDied."""
        try:
            return self._decoder.prepare(data, preprocessing, self.max_pixels)
        finally:
            self._decoded_apart += 1
            timer = threading.Timer(DECODER_KEPT_S, self._close_idle_decoder, [self._decoded_apart])
            timer.daemon = True
            timer.start()

    def _close_idle_decoder(self, decoded: int) -> None:
        def close() -> None:
            if self._decoded_apart == decoded:
                self._decoder.close()

        with suppress(RuntimeError):  # the engine is closed, and the decoder with it
            self._apart.submit(close)

    def _classify_part(self, batch: "_Batch", part: range) -> "_Part":
        began = time.perf_counter()
        # A GPU's part is the whole batch, and one thread could not decode as quickly as the GPU infers.
        each = map if batch.predictor.provider == CPU else self._decoders.map
        prepared = list(each(lambda place: self._prepare(batch, place), part))
        decoded = time.perf_counter()
        readable = [pixels for pixels in prepared if isinstance(pixels, np.ndarray)]
        inferred_outcomes = iter(_answered(batch, readable))
        inferred = time.perf_counter()
        outcomes = [next(inferred_outcomes) if isinstance(p, np.ndarray) else failure(p) for p in prepared]
        return _Part(outcomes, PartTimes(len(part), began, decoded, inferred))

    def _classify_decoded(self, batch: "_Batch", place: int) -> ImageOutcome:
        try:
            pixels = batch.apart[place].result()
        except ImageQuarantined as error:
            batch.ended[place] = str(error)
            return failure(error)
        except (ImageError, MemoryError) as error:
            return failure(error)
        (outcome,) = self._runners.submit(_answered, batch, [pixels]).result()
        return outcome


def _pixels(data: bytes, preprocessing: Preprocessing) -> Pixels | ImageError:
    shape = (preprocessing.height, preprocessing.width, 3)
    if len(data) != math.prod(shape):
        return ImageUnreadable(
            f"the pixels have {len(data)} bytes; expected {list(shape)}, {math.prod(shape)} bytes"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _answered(batch: _Batch, images: Sequence[Pixels]) -> list[ImageOutcome]:
    return answers(batch.held, np.stack(images), batch.asked) if images else []


def failure(error: ImageError | MemoryError | Future[Pixels]) -> ImageOutcome:
    """The outcome of an image that failed; without anything yet of one that is still being decoded."""
    if isinstance(error, Future):
        return ImageOutcome()
    if isinstance(error, MemoryError):
        return ImageOutcome(error="out_of_memory", detail="The worker's memory is used up; send the image again.")
    code = CODES.get(type(error), "image_unreadable")
    detail = quarantined(str(error)) if isinstance(error, ImageQuarantined) else str(error)
    return ImageOutcome(error=code, detail=detail)


def quarantined(reason: str) -> str:
    """What the sender of such an image is told."""
    return (
        f"Decoding this image has ended the process that did it, twice ({reason}), so it is not decoded any more. "
        "Save it anew with another program."
    )
