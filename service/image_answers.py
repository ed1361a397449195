"""Images of a request, each answered by a worker: what calls beside `/classify` have in common."""

import time
from collections.abc import Callable, Mapping, Sequence
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
        self,
        version: VersionKey,
        fields: Sequence[str],
        read: Callable[[ImageOutcome], Mapping[str, Any]],
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Response:
        """The JSON: of each image the `fields` as `read` makes them of the outcome, or null there and its `error`.

        Raises Problem where a single image failed, and what `read` raises.
        """
        told = [answer for answer in self.answers if isinstance(answer, Answer)]
        predictions = []
        for image, answer in zip(self.images, self.answers, strict=True):
            error = _error_of(answer)
            if error and len(self.images) == 1:
                raise error
            failed = {"code": error.code, "detail": error.detail} if error else None
            found = read(answer.outcome) if isinstance(answer, Answer) and not error else dict.fromkeys(fields)
            predictions.append({"name": image.name, **found, "error": failed})
        body = {
            "model": version.model,
            "version": version.version,
            "provider": next((answer.provider for answer in told if answer.provider), None),
            "precision": next((answer.precision for answer in told if answer.provider), None),
            **more,
            "predictions": predictions,
            "timings": {**(told[0].told_timings() if told else {}), "total_ms": round(self.total_ms, 2)},
        }
        return Response(dumps(body), media_type="application/json", headers=headers)

    def only_outcome(self) -> ImageOutcome:
        """Of the one image that was sent. Raises Problem where that failed."""
        (answer,) = self.answers
        if isinstance(answer, Problem):
            raise answer
        if error := _error_of(answer):
            raise error
        return answer.outcome


async def ask(
    request: Request, version: VersionKey, preferred: Preferences, check: Callable[[int], None] | None = None
) -> AnsweredImages:
    """Read the images of the request and have a worker answer them, the best class alone beside what is asked.

    `check` is told how many there are before anything is asked. Raises Problem: what `read_images`, `check` and
    `classify` raise, and a single image's own; BrokerUnavailable.
    """
    started = time.perf_counter()
    parts = parts_of(request)
    async with parts.intake.reception(key_of(request)) as reception:
        images = await read_images(request, reception)
        if check:
            check(len(images))
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


def not_sent(what: str) -> Problem:
    """What a worker of an earlier release left out, which knows nothing of it."""
    detail = f"The worker is of an earlier release, which does not send {what}; update it."
    return Problem(503, "output_unavailable", detail, {"Retry-After": "5"})
