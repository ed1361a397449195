"""Images of a request, each answered by a worker: what calls beside `/classify` have in common."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from orjson import dumps

from service.auth import key_of
from service.batcher import VersionKey
from service.classification import Caller, classify
from service.disconnection import unless_disconnected
from service.errors import Problem, request_id_of, worker_problem
from service.images import read_images
from service.intake import SentImage
from service.lane import Answer
from service.parts import parts_of, traceparent_of
from service.preferences import Preferences
from workers.contract.messages import ImageOutcome


@dataclass(frozen=True)
class AnsweredImages:
    """The images in the order sent, and the answer to each or what was wrong with it before it was asked.

    `total_ms` since the request began to be read.
    """

    images: Sequence[SentImage]
    answers: Sequence[Answer | Problem]
    total_ms: float

    def response(
        self, version: VersionKey, field: str, read: Callable[[ImageOutcome], Any], **more: Any
    ) -> Response:
        """The JSON: of each image its `field` as `read` makes it of the outcome, or null there and its `error`.

        Raises Problem where a single image failed, and what `read` raises.
        """
        told = [answer for answer in self.answers if isinstance(answer, Answer)]
        predictions = []
        for image, answer in zip(self.images, self.answers, strict=True):
            error = _error_of(answer)
            if error and len(self.images) == 1:
                raise error
            failed = {"code": error.code, "detail": error.detail} if error else None
            found = read(answer.outcome) if isinstance(answer, Answer) and not error else None
            predictions.append({"name": image.name, field: found, "error": failed})
        body = {
            "model": version.model,
            "version": version.version,
            "provider": next((answer.provider for answer in told if answer.provider), None),
            "precision": next((answer.precision for answer in told if answer.provider), None),
            **more,
            "predictions": predictions,
            "timings": {**(_timings(told[0]) if told else {}), "total_ms": round(self.total_ms, 2)},
        }
        return Response(dumps(body), media_type="application/json")


async def ask(request: Request, version: VersionKey, preferred: Preferences) -> AnsweredImages:
    """Read the images of the request and have a worker answer them, the best class alone beside what is asked.

    Raises Problem: what `read_images` and `classify` raise, and a single image's own; BrokerUnavailable.
    """
    started = time.perf_counter()
    parts = parts_of(request)
    async with parts.intake.reception(key_of(request)) as reception:
        images = await read_images(request, reception)
        if len(images) == 1 and images[0].problem:
            raise images[0].problem
        sendable = [image.content for image in images if image.problem is None]
        caller = Caller(key_of(request), request_id_of(request), traceparent_of(request))
        asking = classify(parts, caller, version, sendable, top_k=1, timeout_s=preferred.wait_s or None)
        answered = iter(await unless_disconnected(request, asking))
        reception.answered(images)
    answers = [image.problem or next(answered) for image in images]
    for answer in answers:
        # A single image's error becomes the request's, and is counted there.
        if len(images) > 1 and (error := _error_of(answer)):
            parts.metrics.failures.labels(error.code).inc()
    return AnsweredImages(images, answers, (time.perf_counter() - started) * 1e3)


def _error_of(answer: Answer | Problem) -> Problem | None:
    if isinstance(answer, Problem):
        return answer
    outcome = answer.outcome
    return worker_problem(outcome.error, outcome.detail) if outcome.error else None


def _timings(answer: Answer) -> dict[str, float]:
    timings = answer.timings
    return {
        "wait_ms": round(answer.waited_ms, 2),
        "queue_ms": round(timings.queue_ms, 2),
        "decode_ms": round(timings.decode_ms, 2),
        "inference_ms": round(timings.inference_ms, 2),
        "batch_size": answer.batch_size,
    }
