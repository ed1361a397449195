"""A bulk classification: all images of a dataset or of a folder, chunk by chunk; what is done is never lost.

The listing is decided once (`listing`). A chunk of it is a file of lines (`workers.contract.results`), written
whole when its images have been classified. Whatever ends an attempt, the next one goes on with the chunks that
are not there. One that was overtaken writes the same images' lines once more at the worst.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import structlog

from models.artifact import FLOAT32
from models.formats import BEGIN_BYTES, image_format, no_image
from storage.blobs import BlobStore
from storage.datasets import DatasetRegistry
from storage.errors import NotFound
from storage.registry import ModelRegistry
from workers.contract.jobs import ClassifyManyRequest, ClassifyManyResult
from workers.contract.messages import ImageOutcome
from workers.contract.results import (
    chunk_key,
    chunk_number,
    count_chunks,
    read_lines,
    result_line,
    results_folder,
)
from workers.inference.engine import BatchResult, Engine
from workers.inference.listing import ListedImage, Lister, Listing, decided_listing
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
REPORT_EVERY_S = 0.5

log = structlog.get_logger()
Error = tuple[str, str]


@dataclass(frozen=True)
class Batch:
    """Images next to each other in one chunk of the listing; `suspect` where a process may have died of one."""

    chunk: int
    images: Sequence[ListedImage]
    suspect: bool


@dataclass(frozen=True)
class ClassifiedBatch:
    """The lines of a batch's images in their order. `ran` is None where none of them could be decoded at all."""

    chunk: int
    lines: tuple[bytes, ...]
    errors: Counter[str]
    ran: BatchResult | None


@dataclass(frozen=True)
class ClassifyManyJob:
    """What a bulk classification needs of its worker."""

    registry: ModelRegistry
    datasets: DatasetRegistry
    blobs: BlobStore
    engine: Engine

    def __call__(self, attempt: RunningAttempt) -> None:
        """Raises what `decided_listing` and `Engine.classify` raise, and NotFound for a version that is gone."""
        request = attempt.request(ClassifyManyRequest)
        artifact = self.registry.get_version(request.model, request.version).artifact
        listing = decided_listing(attempt, request, Lister(self.datasets, self.blobs))
        written = _Written.of(self.blobs, attempt.job.id, len(listing.images), request.chunk)
        progress = _Progress(attempt, listing, written.images)
        progress.report(force=True)
        provider, precision = "", FLOAT32
        with ExitStack() as stack:
            classified = _Pipeline(self, artifact, request, stack).run(
                _batches(listing.images, request.chunk, written.chunks, attempt.job.attempt)
            )
            writer = _Writer(self.blobs, attempt.job.id, stack)
            for chunk, batches in _by_chunk(classified, attempt):
                for batch in batches:
                    written.errors.update(batch.errors)
                    if batch.ran:
                        provider, precision = batch.ran.provider, batch.ran.precision
                lines = [line for batch in batches for line in batch.lines]
                writer.write(chunk, b"".join(lines))
                progress.done += len(lines)
                progress.report()
            writer.flush()
        progress.report(force=True)
        attempt.succeed(
            ClassifyManyResult(
                model=request.model,
                version=request.version,
                provider=provider,
                precision=precision,
                images=len(listing.images),
                errors=dict(written.errors.most_common()),
            )
        )


@dataclass
class _Written:
    """What earlier attempts have written: the chunks that are there whole, the images and the errors in them."""

    chunks: set[int] = field(default_factory=set)
    images: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, blobs: BlobStore, job_id: str, images: int, chunk: int) -> "_Written":
        """A file that is none of ours, or not whole, does not count, and is written anew."""
        written = cls()
        for key in blobs.list(results_folder(job_id)):
            number = chunk_number(key)
            if number is None or number >= count_chunks(images, chunk):
                continue
            try:
                lines = read_lines(blobs.get_bytes(key))
            except ValueError:
                continue
            if len(lines) == min(chunk, images - number * chunk):
                written.chunks.add(number)
                written.images += len(lines)
                written.errors.update(line["error"]["code"] for line in lines if line["error"])
        if written.chunks:
            log.info("classification.resumed", chunks=len(written.chunks), images=written.images)
        return written


@dataclass
class _Progress:
    """`{"phase", "done", "total", "listing", "images_per_second", "eta_s"}`, every half second at the most."""

    attempt: RunningAttempt
    listing: Listing
    done: int

    def __post_init__(self) -> None:
        self._began, self._before = time.monotonic(), self.done
        self._reported = 0.0

    def report(self, *, force: bool = False) -> None:
        """Raises LeaseLost and Interrupted."""
        now = time.monotonic()
        if not force and now - self._reported < REPORT_EVERY_S:
            self.attempt.check()
            return
        self._reported = now
        total = len(self.listing.images)
        told = {"phase": "classifying", "done": self.done, "total": total, "listing": self.listing.name}
        if fresh := self.done - self._before:
            rate = fresh / max(now - self._began, 1e-3)
            told |= {"images_per_second": round(rate, 1), "eta_s": round((total - self.done) / rate, 1)}
        self.attempt.report(told)


class _Pipeline:
    """Fetching, and decoding with inference, each ahead of what comes after it; what comes out is in order."""

    def __init__(
        self, job: ClassifyManyJob, artifact: str, request: ClassifyManyRequest, stack: ExitStack
    ) -> None:
        self._job, self._artifact, self._request = job, artifact, request
        self._fetchers = ThreadPoolExecutor(FETCHED_AT_ONCE, thread_name_prefix="fetch")
        self._classifiers = ThreadPoolExecutor(CLASSIFIED_AT_ONCE, thread_name_prefix="classify")
        for pool in (self._fetchers, self._classifiers):
            stack.callback(pool.shutdown, cancel_futures=True)

    def run(self, batches: Iterable[Batch]) -> Iterator[ClassifiedBatch]:
        """Raises what `Engine.classify` raises, and BlobsUnavailable."""
        waiting: deque[Future[ClassifiedBatch]] = deque()
        for batch in batches:
            contents = [self._fetchers.submit(self._fetch, image) for image in batch.images]
            waiting.append(self._classifiers.submit(self._classify, batch, contents))
            if len(waiting) >= CLASSIFIED_AT_ONCE + FETCHED_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _fetch(self, image: ListedImage) -> bytes | Error:
        """The file's bytes, or why it cannot be classified, as a code and a detail."""
        if image.error is not None:
            return image.error, image.detail or ""
        try:
            # By the listing alone a file that has grown since would be read whole.
            content = self._job.blobs.get_bytes(image.key, MOST_BYTES + 1) if image.bytes else b""
        except NotFound:
            return "not_found", "the file was deleted before it was classified"
        if len(content) > MOST_BYTES:
            return "too_large", f"the file has more than {MOST_BYTES:,} bytes: shrink it"
        begin = content[:BEGIN_BYTES]
        return content if image_format(begin) else ("not_an_image", no_image(begin))

    def _classify(self, batch: Batch, contents: Sequence[Future[bytes | Error]]) -> ClassifiedBatch:
        fetched = [content.result() for content in contents]
        images = [content for content in fetched if isinstance(content, bytes)]
        ran = None
        if images:
            ran = self._job.engine.classify(
                self._artifact,
                images,
                self._request.top_k,
                precision=self._request.precision,
                suspects=range(len(images)) if batch.suspect else (),
            )
        outcomes = iter(ran.outcomes if ran else ())
        lines, errors = [], Counter[str]()
        for image, content in zip(batch.images, fetched, strict=True):
            outcome = next(outcomes) if isinstance(content, bytes) else ImageOutcome((), *content)
            if outcome.error is None:
                lines.append(result_line(image.path, outcome.classes, None))
            else:
                errors[outcome.error] += 1
                error = {"code": outcome.error, "detail": outcome.detail or ""}
                lines.append(result_line(image.path, None, error))
        return ClassifiedBatch(batch.chunk, tuple(lines), errors, ran)


class _Writer:
    """Writes files of results in a thread of its own, one after the other, while the next chunk is classified."""

    def __init__(self, blobs: BlobStore, job_id: str, stack: ExitStack) -> None:
        self._blobs, self._job_id = blobs, job_id
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="results")
        # Also where the attempt is interrupted: what was classified is kept.
        stack.callback(self._pool.shutdown)
        self._pending: Future[None] | None = None

    def write(self, chunk: int, lines: bytes) -> None:
        """Returns when the chunk before is written. Raises BlobsUnavailable."""
        self.flush()
        self._pending = self._pool.submit(self._blobs.put_bytes, chunk_key(self._job_id, chunk), lines)

    def flush(self) -> None:
        if self._pending:
            self._pending.result()


def _batches(images: Sequence[ListedImage], chunk: int, written: set[int], attempt: int) -> Iterator[Batch]:
    """Those of the chunks that are not written, in their order."""
    missing = [number for number in range(count_chunks(len(images), chunk)) if number not in written]
    in_hand = set(missing[:CHUNKS_IN_HAND]) if attempt > 1 else set()
    for number in missing:
        suspect = number in in_hand or attempt >= CAREFUL_ATTEMPT
        for batch in _split(images[number * chunk : (number + 1) * chunk]):
            yield Batch(number, batch, suspect)


def _split(images: Sequence[ListedImage]) -> Iterator[Sequence[ListedImage]]:
    """Parts of at most `BATCH_IMAGES` and, but for a single one, `BATCH_BYTES`."""
    start, size = 0, 0
    for place, image in enumerate(images):
        if place > start and (place - start == BATCH_IMAGES or size + image.bytes > BATCH_BYTES):
            yield images[start:place]
            start, size = place, 0
        size += image.bytes
    yield images[start:]


def _by_chunk(
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
