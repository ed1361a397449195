"""A classify job: many images, or one whose client does not wait, in chunks through the engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.artifact import FLOAT32
from storage.blobs import BlobStore
from storage.registry import ModelRegistry
from workers.contract.jobs.classify import ClassifiedImage, ClassifyRequest, ClassifyResult, PredictionSet
from workers.contract.messages import ImageOutcome
from workers.contract.results import prediction_set
from workers.contract.unknown import judged
from workers.inference.answers import Asked
from workers.inference.engine import Engine
from workers.jobs.attempt import RunningAttempt

CHUNK = 16


@dataclass(frozen=True)
class ClassifyJob:
    """What a classify job needs of its worker."""

    registry: ModelRegistry
    blobs: BlobStore
    engine: Engine

    def __call__(self, attempt: RunningAttempt) -> None:
        """Raises NotFound for a version or an image that is gone, and what `Engine.classify` raises.

        LeaseLost and Interrupted come between two chunks.
        """
        request = attempt.request(ClassifyRequest)
        version = self.registry.get_version(request.model, request.version)
        outcomes: list[ImageOutcome] = []
        provider, precision = "", FLOAT32
        asked = Asked(request.top_k, coverage=request.coverage)
        for chunk in _chunks(request.images):
            images = [self.blobs.get_bytes(key) for key in chunk]
            # Whatever ended the attempt before: if it was one of the images, it ends no worker any more.
            suspects = range(len(images)) if attempt.job.attempt > 1 else ()
            batch = self.engine.classify(
                version.artifact, images, asked, precision=request.precision, suspects=suspects
            )
            provider, precision = batch.provider, batch.precision
            outcomes += (judged(outcome, request.on_unknown) for outcome in batch.outcomes)
            attempt.report({"phase": "classifying", "done": len(outcomes), "total": len(request.images)})
        predictions = tuple(
            _classified(name, request.coverage, outcome)
            for name, outcome in zip(request.names, outcomes, strict=True)
        )
        attempt.succeed(
            ClassifyResult(
                model=version.model,
                version=version.number,
                provider=provider,
                precision=precision,
                predictions=predictions,
            )
        )


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def _classified(name: str | None, coverage: float | None, outcome: ImageOutcome) -> ClassifiedImage:
    if outcome.error:
        error = {"code": outcome.error, "detail": outcome.detail}
        return ClassifiedImage(name=name, classes=None, error=error, unknown=outcome.unknown)
    found = prediction_set(coverage, outcome)
    return ClassifiedImage(
        name=name,
        classes=outcome.classes,
        error=None,
        set=found and PredictionSet(**found),
        unknown=outcome.unknown,
    )
