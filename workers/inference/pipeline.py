"""Images through the engine in chunks: fetched ahead, classified, and written as lines, each chunk a whole file.

Whatever ends an attempt, the next one goes on with the chunks that are not there. Knows no kind of job.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.formats import BEGIN_BYTES, image_format, no_image
from storage.blobs import BlobStore
from storage.errors import NotFound
from workers.contract.messages import ImageOutcome
from workers.contract.results import count_chunks
from workers.contract.unknown import OnUnknown, judged
from workers.inference.answers import Asked
from workers.inference.engine import BatchResult, Engine
from workers.inference.listing import ListedImage
from workers.jobs.attempt import RunningAttempt

# What the engine is given at once. On a GPU an image that somebody waits for waits for one of these.
BATCH_IMAGES = 16
BATCH_BYTES = 32 * 2**20
# Batches being classified: while one of them ends, the other keeps all cores busy. And those fetched before.
CLASSIFIED_AT_ONCE = 2
FETCHED_AHEAD = 2
# A store that answers in 30 ms is asked for so many images at once.
FETCHED_AT_ONCE = 8
# As large as a file of an uploaded dataset may be.
MOST_BYTES = 64 * 2**20
# What may have been in hand when an attempt died: being written, being gathered, being classified.
CHUNKS_IN_HAND = 3
# From this attempt on every image is decoded in a process of its own: the ones before may have died of several.
CAREFUL_ATTEMPT = 3

Image = TypeVar("Image", bound=ListedImage)
Error = tuple[str, str]


@dataclass(frozen=True)
class Batch(Generic[Image]):
    """Images next to each other in one chunk of the listing; `suspect` where a process may have died of one."""

    chunk: int
    images: Sequence[Image]
    suspect: bool


@dataclass(frozen=True)
class ClassifiedBatch:
    """The lines of a batch's images in their order; `unknown` of them show none of the version's classes. `ran` is
    None where none of them could be decoded at all."""

    chunk: int
    lines: tuple[bytes, ...]
    errors: Counter[str]
    ran: BatchResult | None
    unknown: int = 0


@dataclass(frozen=True)
class Classifying(Generic[Image]):
    """What is to be done with each image: which artifact in which precision, and the line of its outcome; of
    one that shows none of the classes by `on_unknown`.

    `blobs` is where the images lie.
    """

    engine: Engine
    blobs: BlobStore
    artifact: str
    precision: str
    asked: Asked
    line: Callable[[Image, ImageOutcome], bytes]
    on_unknown: OnUnknown = "mark"


class Pipeline(Generic[Image]):
    """Fetching, and decoding with inference, each ahead of what comes after it; what comes out is in order."""

    def __init__(self, work: Classifying[Image], stack: ExitStack) -> None:
        self._work = work
        self._fetchers = ThreadPoolExecutor(FETCHED_AT_ONCE, thread_name_prefix="fetch")
        self._classifiers = ThreadPoolExecutor(CLASSIFIED_AT_ONCE, thread_name_prefix="classify")
        for pool in (self._fetchers, self._classifiers):
            stack.callback(pool.shutdown, cancel_futures=True)

    def run(self, batches: Iterable[Batch[Image]]) -> Iterator[ClassifiedBatch]:
        """Raises what `Engine.classify` raises, and BlobsUnavailable."""
        waiting: deque[Future[ClassifiedBatch]] = deque()
        for batch in batches:
            contents = [self._fetchers.submit(self._fetch, image) for image in batch.images]
            waiting.append(self._classifiers.submit(self._classify, batch, contents))
            if len(waiting) >= CLASSIFIED_AT_ONCE + FETCHED_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _fetch(self, image: Image) -> bytes | Error:
        """The file's bytes, or why it cannot be classified, as a code and a detail."""
        if image.error is not None:
            return image.error, image.detail or ""
        try:
            # By the listing alone a file that has grown since would be read whole.
            content = self._work.blobs.get_bytes(image.key, MOST_BYTES + 1) if image.bytes else b""
        except NotFound:
            return "not_found", "the file was deleted before it was classified"
        if len(content) > MOST_BYTES:
            return "too_large", f"the file has more than {MOST_BYTES:,} bytes: shrink it"
        begin = content[:BEGIN_BYTES]
        return content if image_format(begin) else ("not_an_image", no_image(begin))

    def _classify(self, batch: Batch[Image], contents: Sequence[Future[bytes | Error]]) -> ClassifiedBatch:
        work = self._work
        fetched = [content.result() for content in contents]
        images = [content for content in fetched if isinstance(content, bytes)]
        ran = None
        if images:
            ran = work.engine.classify(
                work.artifact,
                images,
                work.asked,
                precision=work.precision,
                suspects=range(len(images)) if batch.suspect else (),
            )
        outcomes = iter(ran.outcomes if ran else ())
        lines, errors, unknown = [], Counter[str](), 0
        for image, content in zip(batch.images, fetched, strict=True):
            outcome = next(outcomes) if isinstance(content, bytes) else ImageOutcome((), *content)
            unknown += bool(outcome.unknown and outcome.unknown.is_unknown)
            outcome = judged(outcome, work.on_unknown)
            if outcome.error is not None:
                errors[outcome.error] += 1
            lines.append(work.line(image, outcome))
        return ClassifiedBatch(batch.chunk, tuple(lines), errors, ran, unknown)


class ChunkWriter:
    """Writes files of results in a thread of its own, one after the other, while the next chunk is classified."""

    def __init__(self, blobs: BlobStore, stack: ExitStack) -> None:
        self._blobs = blobs
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="results")
        # Also where the attempt is interrupted: what was classified is kept.
        stack.callback(self._pool.shutdown)
        self._pending: Future[None] | None = None

    def write(self, key: str, lines: bytes) -> None:
        """Returns when the chunk before is written. Raises BlobsUnavailable."""
        self.flush()
        self._pending = self._pool.submit(self._blobs.put_bytes, key, lines)

    def flush(self) -> None:
        if self._pending:
            self._pending.result()


def batches_of(
    images: Sequence[Image], chunk: int, written: Collection[int], attempt: int
) -> Iterator[Batch[Image]]:
    """Those of the chunks that are not written, in their order."""
    missing = [number for number in range(count_chunks(len(images), chunk)) if number not in written]
    in_hand = set(missing[:CHUNKS_IN_HAND]) if attempt > 1 else set()
    for number in missing:
        suspect = number in in_hand or attempt >= CAREFUL_ATTEMPT
        for batch in _split(images[number * chunk : (number + 1) * chunk]):
            yield Batch(number, batch, suspect)


def by_chunk(
    batches: Iterable[ClassifiedBatch], attempt: RunningAttempt
) -> Iterator[tuple[int, list[ClassifiedBatch]]]:
    """The batches of each chunk together. Raises LeaseLost and Interrupted between two batches."""
    gathered: list[ClassifiedBatch] = []
    for batch in batches:
        if gathered and gathered[0].chunk != batch.chunk:
            yield gathered[0].chunk, gathered
            gathered = []
        gathered.append(batch)
        attempt.check()
    if gathered:
        yield gathered[0].chunk, gathered


def _split(images: Sequence[Image]) -> Iterator[Sequence[Image]]:
    """Parts of at most `BATCH_IMAGES` and, but for a single one, `BATCH_BYTES`."""
    start, size = 0, 0
    for place, image in enumerate(images):
        if place > start and (place - start == BATCH_IMAGES or size + image.bytes > BATCH_BYTES):
            yield images[start:place]
            start, size = place, 0
        size += image.bytes
    yield images[start:]
