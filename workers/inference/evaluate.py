"""An evaluation: what versions answer on a dataset's images, chunk by chunk, and how good those answers are.

Version after version, so that no more than one has to be in memory. A chunk of answers is a file
(`workers.contract.evaluations`): whatever ends an attempt, the next one goes on with those that are not there.
What is reported is read from these files, so that a broken job reports what an unbroken one does.
"""

import base64
import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from models.evaluation.report import EvaluationReport
from models.spec import PROBABILITIES
from storage.blobs import BlobStore
from storage.datasets import DatasetRegistry
from storage.errors import NotFound
from storage.registry import ModelRegistry, Version
from workers.contract.evaluations import (
    CARD_HTML,
    CARD_MARKDOWN,
    REPORT,
    ChunkHead,
    answer_line,
    answers_key,
    read_chunk,
    report_key,
    write_chunk,
)
from workers.contract.jobs.evaluate import EvaluateRequest
from workers.contract.messages import ImageOutcome
from workers.contract.results import count_chunks
from workers.inference.answers import Asked
from workers.inference.engine import Engine
from workers.inference.evaluation_report import make_report, result_of
from workers.inference.labelled import LabelledDataset, LabelledDatasets
from workers.inference.pipeline import ChunkWriter, Classifying, Pipeline, batches_of, by_chunk
from workers.inference.selection import LabelledImage, Selection, class_indices, decided_selection
from workers.jobs.attempt import RunningAttempt

REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class EvaluateJob:
    """What an evaluation needs of its worker; the built-in dataset is made in `cache`."""

    registry: ModelRegistry
    datasets: DatasetRegistry
    blobs: BlobStore
    engine: Engine
    cache: Path

    def __call__(self, attempt: RunningAttempt) -> None:
        """Raises what `decided_selection`, `make_report` and `Engine.classify` raise, and NotFound for a version
        that is gone."""
        request = attempt.request(EvaluateRequest)
        versions = [self.registry.get_version(asked.model, asked.version) for asked in request.models]
        datasets = LabelledDatasets(self.datasets, self.blobs, self.cache)
        dataset = datasets.open(request.dataset)
        selection = decided_selection(
            attempt, request, versions, dataset, datasets=datasets, registry=self.registry, blobs=self.blobs
        )
        progress = _Progress(attempt, selection.name, len(selection.images) * len(versions))
        for place, version in enumerate(versions):
            progress.version = f"{version.model}:{version.number}"
            self._answer(attempt, version, place, selection, dataset, progress)
        progress.report("reporting", force=True)
        report = make_report(attempt.job.id, request, versions, selection, dataset, self.blobs)
        self._write(attempt.job.id, report, dataset)
        attempt.succeed(result_of(report))

    def _answer(
        self,
        attempt: RunningAttempt,
        version: Version,
        place: int,
        selection: Selection,
        dataset: LabelledDataset,
        progress: "_Progress",
    ) -> None:
        """Has a file of answers for each chunk then, all in one precision."""
        job_id, request, images = attempt.job.id, attempt.request(EvaluateRequest), selection.images
        with self.engine.models.hold(version.artifact, request.precision) as held:
            head = ChunkHead(held.predictor.precision, held.predictor.provider)
        written = set(self._written(job_id, place, len(images), request.chunk, head.precision))
        progress.skip(sum(images_in(number, len(images), request.chunk) for number in written))
        work = Classifying(
            self.engine,
            dataset.files.blobs,
            version.artifact,
            head.precision,
            Asked(1, (PROBABILITIES,)),
            _line_of(version),
        )
        with ExitStack() as stack:
            answered = Pipeline(work, stack).run(batches_of(images, request.chunk, written, attempt.job.attempt))
            writer = ChunkWriter(self.blobs, stack)
            for chunk, batches in by_chunk(answered, attempt):
                lines = [line for batch in batches for line in batch.lines]
                writer.write(answers_key(job_id, place, chunk), write_chunk(head, lines))
                progress.add(len(lines))
            writer.flush()

    def _written(self, job_id: str, place: int, images: int, chunk: int, precision: str) -> Iterator[int]:
        """The chunks that are there whole in that precision; others are written anew."""
        for number in range(count_chunks(images, chunk)):
            try:
                head, lines = read_chunk(self.blobs.get_bytes(answers_key(job_id, place, number)))
            except (NotFound, ValueError):
                continue
            if head.precision == precision and len(lines) == images_in(number, images, chunk):
                yield number

    def _write(self, job_id: str, report: EvaluationReport, dataset: LabelledDataset) -> None:
        # Imported here: jinja2 is for the end of a job, and not for all that this process does.
        from models.card.evaluated import evaluation_card
        from models.card.render import to_html, to_markdown

        def picture(sha256: str) -> NDArray[np.uint8] | None:
            return _pixels(dataset.thumbnail(sha256))

        page = evaluation_card(report, picture)
        self.blobs.put_bytes(report_key(job_id, CARD_HTML), to_html(page).encode())
        self.blobs.put_bytes(report_key(job_id, CARD_MARKDOWN), to_markdown(page).encode())
        self.blobs.put_bytes(report_key(job_id, REPORT), orjson.dumps(report.to_dict()))


@dataclass
class _Progress:
    """`{"phase", "version", "done", "total", "selection", "images_per_second", "eta_s"}`, every half second at the
    most; `done` and `total` count the answers of all versions."""

    attempt: RunningAttempt
    selection: str
    total: int
    version: str = ""
    done: int = 0

    def __post_init__(self) -> None:
        self._began, self._reported, self._fresh = time.monotonic(), 0.0, 0

    def skip(self, answers: int) -> None:
        """Those that an earlier attempt has written."""
        self.done += answers
        self.report()

    def add(self, answers: int) -> None:
        """Raises LeaseLost and Interrupted."""
        self.done += answers
        self._fresh += answers
        self.report()

    def report(self, phase: str = "measuring", *, force: bool = False) -> None:
        """Raises LeaseLost and Interrupted."""
        now = time.monotonic()
        if not force and now - self._reported < REPORT_EVERY_S:
            self.attempt.check()
            return
        self._reported = now
        told = {
            "phase": phase,
            "version": self.version,
            "done": self.done,
            "total": self.total,
            "selection": self.selection,
        }
        if self._fresh:
            rate = self._fresh / max(now - self._began, 1e-3)
            told |= {"images_per_second": round(rate, 1), "eta_s": round((self.total - self.done) / rate, 1)}
        self.attempt.report(told)


def images_in(number: int, images: int, chunk: int) -> int:
    """How many images the chunk of that number has."""
    return min(chunk, images - number * chunk)


def _line_of(version: Version) -> Callable[[LabelledImage, ImageOutcome], bytes]:
    """Makes the line of an image's outcome."""
    known = class_indices(version.labels)

    def line(image: LabelledImage, outcome: ImageOutcome) -> bytes:
        if outcome.error is not None or outcome.outputs is None:
            error = {"code": outcome.error or "inference_failed", "detail": outcome.detail or ""}
            return answer_line(image.path, image.label, error=error)
        found = np.frombuffer(base64.b64decode(outcome.outputs[PROBABILITIES]), "<f4").astype(np.float64)
        best, truth = outcome.classes[0].index, known.get(image.label)
        of_label, figures = None, None
        if truth is not None:
            of_label = float(found[truth])
            rank = int((found > of_label).sum() + (found[:truth] == of_label).sum())
            figures = (best, rank, float((found**2).sum() - 2 * of_label + 1))
        return answer_line(
            image.path,
            image.label,
            predicted=version.labels[best],
            probability=float(found[best]),
            of_label=of_label,
            figures=figures,
        )

    return line


def _pixels(webp: bytes | None) -> NDArray[np.uint8] | None:
    if webp is None:
        return None
    with Image.open(io.BytesIO(webp)) as picture:
        return np.asarray(picture.convert("RGB"))
