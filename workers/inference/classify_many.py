"""A bulk classification: all images of a dataset or of a folder, chunk by chunk; what is done is never lost.

The listing is decided once (`listing`). A chunk of it is a file of lines (`workers.contract.results`), written
whole when its images have been classified. Whatever ends an attempt, the next one goes on with the chunks that
are not there. One that was overtaken writes the same images' lines once more at the worst.
"""

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import structlog

from models.artifact import FLOAT32
from storage.blobs import BlobStore
from storage.datasets import DatasetRegistry
from storage.registry import ModelRegistry
from workers.contract.jobs.classify_many import ClassifyManyRequest, ClassifyManyResult
from workers.contract.messages import ImageOutcome
from workers.contract.results import (
    chunk_key,
    chunk_number,
    count_chunks,
    prediction_set,
    read_lines,
    result_line,
    results_folder,
)
from workers.inference.answers import Asked
from workers.inference.engine import Engine
from workers.inference.listing import ListedImage, Lister, Listing, decided_listing
from workers.inference.pipeline import ChunkWriter, Classifying, Pipeline, batches_of, by_chunk
from workers.jobs.attempt import RunningAttempt

REPORT_EVERY_S = 0.5

log = structlog.get_logger()


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
            work = Classifying(
                self.engine,
                self.blobs,
                artifact,
                request.precision,
                Asked(request.top_k, coverage=request.coverage),
                partial(_line, request.coverage),
                on_unknown=request.on_unknown,
            )
            classified = Pipeline(work, stack).run(
                batches_of(listing.images, request.chunk, written.chunks, attempt.job.attempt)
            )
            writer = ChunkWriter(self.blobs, stack)
            for chunk, batches in by_chunk(classified, attempt):
                for batch in batches:
                    written.errors.update(batch.errors)
                    written.unknown += batch.unknown
                    if batch.ran:
                        provider, precision = batch.ran.provider, batch.ran.precision
                lines = [line for batch in batches for line in batch.lines]
                writer.write(chunk_key(attempt.job.id, chunk), b"".join(lines))
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
                unknown=written.unknown,
            )
        )


@dataclass
class _Written:
    """What earlier attempts have written: the chunks that are there whole, the images and the errors in them,
    and how many of the images show none of the version's classes."""

    chunks: set[int] = field(default_factory=set)
    images: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unknown: int = 0

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
                written.unknown += sum(bool((line.get("unknown") or {}).get("is_unknown")) for line in lines)
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


def _line(coverage: float | None, image: ListedImage, outcome: ImageOutcome) -> bytes:
    if outcome.error is None:
        found_set = prediction_set(coverage, outcome)
        return result_line(image.path, outcome.classes, None, found_set=found_set, unknown=outcome.unknown)
    error = {"code": outcome.error, "detail": outcome.detail or ""}
    return result_line(image.path, None, error, unknown=outcome.unknown)
