"""`POST /v1/models/{ref}/classify`: images in, classes out, at once or (`Prefer: respond-async`) as a job."""

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.types import Scope

from models.artifact import PrecisionChoice
from service.auth import key_of, requires
from service.batcher import VersionKey
from service.classification import Caller, asked_coverage
from service.classification import classify as classify_images
from service.direct_route import DirectRoute
from service.disconnection import unless_disconnected
from service.errors import Problem, request_id_of, worker_problem
from service.exchange import StoredImage
from service.idempotency import idempotency_key_of, idempotency_of
from service.images import read_images
from service.intake import SentImage
from service.lane import Answer
from service.parts import Parts, parts_of, traceparent_of
from service.preferences import NO_PREFERENCES, Preferences, preferences
from service.routes.jobs import accepted, create_job
from service.schemas.classification import CLASSIFY_BODY, CLASSIFY_RESPONSES, Classification
from storage.errors import DatabaseUnavailable
from storage.ids import new_id
from workers.contract.jobs.classify import ClassifyRequest
from workers.contract.messages import ImageOutcome
from workers.contract.queues import JobKind
from workers.contract.results import prediction_set
from workers.contract.unknown import ON_UNKNOWN, OnUnknown, judged

USUAL_QUERY = re.compile(rb"(?:top_k=([1-9][0-9]{0,2}|1000))?")
TOP_K = 5
PREDICTION = ("classes", "set", "error", "unknown")
NO_SET = ImageOutcome(
    error="coverage_unavailable",
    detail="A worker of an earlier release answered, which knows no sets; update it, or leave the coverage out.",
)
COVERAGE = "Also the smallest set of classes that holds the truth with that probability, by validation images."
PRECISION = "`auto`: the fastest that the worker may serve. Or one that the version has a graph in."


class ClassifyRoute(DirectRoute):
    """Reads what a program sends that classifies image after image: a body of known size, perhaps `top_k`."""

    def arguments(self, scope: Scope) -> Mapping[str, Any] | None:
        query = USUAL_QUERY.fullmatch(scope["query_string"])
        size = None
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                size = int(value)
            elif name == b"prefer":
                return None
        parts: Parts = scope["app"].state.parts
        if query is None or size is None or size > parts.settings.max_body_bytes:
            return None
        top_k = int(query[1]) if query[1] else TOP_K
        return {"reference": scope["path_params"]["reference"], "preferred": NO_PREFERENCES, "top_k": top_k}


router = APIRouter(tags=["classify"], dependencies=[Depends(requires("classify"))], route_class=ClassifyRoute)


@router.post(
    "/v1/models/{reference}/classify",
    summary="Classify one image or many",
    response_model=Classification,
    responses=CLASSIFY_RESPONSES,
    openapi_extra=CLASSIFY_BODY,
)
async def classify(
    reference: str,
    request: Request,
    preferred: Annotated[Preferences, Depends(preferences)],
    top_k: Annotated[int, Query(ge=1, le=1000, description="Classes to name for each image.")] = TOP_K,
    precision: Annotated[PrecisionChoice, Query(description=PRECISION)] = "auto",
    coverage: Annotated[float | None, Query(gt=0, lt=1, description=COVERAGE)] = None,
    on_unknown: Annotated[OnUnknown, Query(description=ON_UNKNOWN)] = "mark",
) -> Response:
    """One prediction per image in the order sent. A single image that fails is an error; among several, each
    failed image has its own `error` in its place and the others are classified."""
    started = time.perf_counter()
    parts = parts_of(request)
    idempotency_key_of(request)
    version = await parts.versions.resolve(reference)
    asked = asked_coverage(version, coverage, precision)
    async with parts.intake.reception(key_of(request)) as reception:
        if preferred.respond_async and "idempotency-key" in request.headers:
            reception.digest = hashlib.sha256()
        images = await read_images(request, reception)
        if len(images) == 1 and images[0].problem:
            raise images[0].problem
        if preferred.respond_async:
            wanted = ClassifyRequest(
                model=version.model,
                version=version.number,
                top_k=top_k,
                images=(),
                names=tuple(image.name for image in images),
                precision=asked,
                coverage=coverage,
                on_unknown=on_unknown,
            )
            return await _start_classify_job(parts, request, wanted, images, reception.digest)
        key = VersionKey(version.model, version.number, version.artifact, asked, coverage=coverage)
        answers = await _answers(parts, request, key, images, top_k, on_unknown, preferred)
        reception.answered(images)
    if len(images) == 1 and (error := answers[0]["error"]):
        raise worker_problem(error["code"], error["detail"])
    body = {
        "model": version.model,
        "version": version.number,
        "provider": next((answer["provider"] for answer in answers if answer["provider"]), None),
        "precision": next((answer["precision"] for answer in answers if answer["provider"]), None),
        "predictions": [
            {"name": image.name, **{part: answer[part] for part in PREDICTION}}
            for image, answer in zip(images, answers, strict=True)
        ],
        "timings": {
            **next((answer["timings"] for answer in answers if answer["timings"]), {}),
            "total_ms": round((time.perf_counter() - started) * 1e3, 2),
        },
    }
    return Response(orjson.dumps(body), media_type="application/json")


async def _answers(
    parts: Parts,
    request: Request,
    version: VersionKey,
    images: Sequence[SentImage],
    top_k: int,
    on_unknown: OnUnknown,
    preferred: Preferences,
) -> list[dict[str, Any]]:
    """What each image's prediction is made of, in the order sent."""
    sendable = [image.content for image in images if image.problem is None]
    caller = Caller(key_of(request), request_id_of(request), traceparent_of(request))
    classifying = classify_images(
        parts, caller, version, sendable, top_k=top_k, timeout_s=preferred.wait_s or None
    )
    answered = iter(await unless_disconnected(request, classifying))
    answers = [
        _from_problem(image.problem)
        if image.problem
        else _from_answer(next(answered), top_k, version.coverage, on_unknown)
        for image in images
    ]
    for answer in answers:
        # A single image's error becomes the request's, and is counted there.
        if answer["error"] and len(images) > 1:
            parts.metrics.failures.labels(answer["error"]["code"]).inc()
    return answers


def _from_problem(problem: Problem) -> dict[str, Any]:
    error = {"code": problem.code, "detail": problem.detail}
    nothing = dict.fromkeys(("classes", "set", "unknown", "provider", "precision", "timings"))
    return {**nothing, "error": error}


def _from_answer(answer: Answer, top_k: int, coverage: float | None, on_unknown: OnUnknown) -> dict[str, Any]:
    outcome = judged(answer.outcome, on_unknown)
    if coverage is not None and not outcome.error and outcome.prediction_set is None:
        outcome = NO_SET
    error = {"code": outcome.error, "detail": outcome.detail} if outcome.error else None
    return {
        "classes": None if error else outcome.classes[:top_k],
        "set": None if error else prediction_set(coverage, outcome),
        "error": error,
        "unknown": outcome.unknown,
        "provider": answer.provider,
        "precision": answer.precision,
        "timings": answer.told_timings(),
    }


async def _start_classify_job(
    parts: Parts,
    request: Request,
    asked: ClassifyRequest,
    images: Sequence[SentImage],
    digest: "hashlib._Hash | None",
) -> Response:
    """Keep the images as blobs, then make the job that classifies them; of a refused request nothing is kept."""
    refused = next((image.problem for image in images if image.problem), None)
    if refused:
        raise refused
    key = idempotency_of(request, digest.hexdigest()) if digest else None
    job_id = new_id("job")
    blobs = tuple(f"jobs/{job_id}/images/{n:04d}" for n in range(len(images)))
    asked = asked.model_copy(update={"images": blobs})

    def store() -> None:
        for blob, image in zip(blobs, images, strict=True):
            content = image.content
            data = parts.exchange.fetch(content) if isinstance(content, StoredImage) else content
            parts.blobs.put_bytes(blob, data)

    def discard() -> None:
        parts.blobs.delete_prefix(f"jobs/{job_id}")

    try:
        await asyncio.to_thread(store)
        job = await create_job(request, JobKind.CLASSIFY, asked.model_dump(mode="json"), key, job_id)
    except DatabaseUnavailable:
        # The commit may have arrived although its answer did not: then the job needs the images, and if it did
        # not, the clean-up deletes them.
        raise
    except Exception:
        await asyncio.to_thread(discard)
        raise
    if job.id == job_id:
        await parts.dispatcher.dispatch(job)
    else:
        # A repeated request: the first one's job has the images already.
        await asyncio.to_thread(discard)
    return accepted(job, {"Preference-Applied": "respond-async"})
