"""`POST /v1/models/{ref}/explain`: where in an image a class was seen, as numbers or as a picture."""

import base64
import difflib
import time
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from models.artifact import FLOAT32, PrecisionChoice
from models.explanation.method import AUTO, OCCLUSION, MethodChoice
from models.spec import FEATURE_MAP
from models.validation import InvalidField, InvalidFields, shortened
from service.auth import key_of, requires
from service.batcher import VersionKey
from service.classification import Caller, asked_precision, classify
from service.disconnection import unless_disconnected
from service.errors import Problem, invalid_request, request_id_of, worker_problem
from service.images import read_images
from service.intake import SentImage
from service.lane import Answer
from service.negotiation import wanted
from service.parts import Parts, parts_of, traceparent_of
from service.preferences import Preferences, preferences
from service.schemas.classification import CLASSIFY_BODY
from service.schemas.explanation import EXPLAIN_RESPONSES, ExplanationOut
from storage.registry import Version
from workers.contract.messages import Explain, Explanation

# Each costs more than to be classified, the 64 passes of occlusion most.
MOST_IMAGES = 16
JSON, PNG = "application/json", "image/png"
CLASS = "A label, or the number of a class; without it each image's most probable one."
METHOD = "`auto`: the first of `cam`, `recipro-cam` and `occlusion` that the version can be explained by."
PRECISION = "What the network is computed in; `auto` is `float32`."
OVERLAY = "With JSON: the picture that `Accept: image/png` gives, too, in base64."
SIDES = ("left", "top", "right", "bottom")

router = APIRouter(tags=["classify"], dependencies=[Depends(requires("classify"))])


@router.post(
    "/v1/models/{reference}/explain",
    summary="Where in an image a class was seen",
    response_model=ExplanationOut,
    responses=EXPLAIN_RESPONSES,
    openapi_extra=CLASSIFY_BODY,
)
async def explain(
    reference: str,
    request: Request,
    preferred: Annotated[Preferences, Depends(preferences)],
    label: Annotated[str | None, Query(alias="class", max_length=255, description=CLASS)] = None,
    method: Annotated[MethodChoice, Query(description=METHOD)] = "auto",
    precision: Annotated[PrecisionChoice, Query(description=PRECISION)] = "auto",
    overlay: Annotated[bool, Query(description=OVERLAY)] = False,
) -> Response:
    """A map over what the network saw of each image, high where it speaks for the class. With `Accept: image/png`
    the map of one image drawn over it, dark where nothing was seen of it. At most 16 images; errors as in
    classify."""
    started = time.perf_counter()
    parts = parts_of(request)
    form = wanted(request.headers.get("accept", ""), (JSON, PNG))
    if form is None:
        raise Problem(406, "not_acceptable", f"Explanations come as {JSON} or {PNG}, by Accept.")
    version = await parts.versions.resolve(reference)
    why = Explain(index_of(label, version.labels), _method(version, method), overlay=overlay or form == PNG)
    asked = FLOAT32 if precision == AUTO else asked_precision(version, precision)
    async with parts.intake.reception(key_of(request)) as reception:
        images = await read_images(request, reception)
        _check_count(len(images), form)
        if len(images) == 1 and images[0].problem:
            raise images[0].problem
        key = VersionKey(version.model, version.number, version.artifact, asked, explain=why)
        answers = await _answers(parts, request, key, images, preferred)
        reception.answered(images)
    told = [_told(image, answer) for image, answer in zip(images, answers, strict=True)]
    if len(told) == 1 and (error := told[0]["error"]):
        raise worker_problem(error["code"], error["detail"])
    for one in told:
        if one["error"]:
            parts.metrics.failures.labels(one["error"]["code"]).inc()
    if form == PNG:
        return Response(base64.b64decode(told[0]["overlay"]), media_type=PNG, headers={"Vary": "Accept"})
    first = next((answer for answer in answers if answer and answer.provider), None)
    body = {
        "model": version.model,
        "version": version.number,
        "provider": first.provider if first else None,
        "precision": first.precision if first else None,
        "predictions": told,
        "timings": {**_timings(first), "total_ms": round((time.perf_counter() - started) * 1e3, 2)},
    }
    return Response(orjson.dumps(body), media_type=JSON, headers={"Vary": "Accept"})


def index_of(label: str | None, labels: Sequence[str]) -> int | None:
    """The class of that label, else of that number. Raises Problem 422 with the nearest labels."""
    if label is None:
        return None
    same = [index for index, known in enumerate(labels) if known == label]
    if len(same) == 1:
        return same[0]
    if same:
        raise _unknown(f"{len(same)} classes are called {shortened(label)}; give its number: {_listed(same)}")
    if label.isascii() and label.isdigit() and int(label) < len(labels):
        return int(label)
    known = {each.casefold(): each for each in labels}
    near = [known[found] for found in difflib.get_close_matches(label.casefold(), known, n=3, cutoff=0.5)]
    meant = f"did you mean {' or '.join(map(shortened, near))}?" if near else f"it has {_listed(labels)}"
    raise _unknown(
        f"no class of this version is called {shortened(label)}, and they are numbered from 0 to "
        f"{len(labels) - 1}; {meant}"
    )


def _unknown(message: str) -> Problem:
    return invalid_request(InvalidFields.first_of([InvalidField("query.class", message)], 1))


def _listed(things: Sequence[Any]) -> str:
    more = f" and {len(things) - 5} more" if len(things) > 5 else ""
    return ", ".join(shortened(str(thing)) for thing in things[:5]) + more


def _method(version: Version, method: str) -> str:
    """Whatever can be known here, so that what costs 64 passes is told from the rest."""
    has_map = FEATURE_MAP in (version.manifest.get("outputs") or {})
    return OCCLUSION if method == AUTO and not has_map else method


def _check_count(images: int, form: str) -> None:
    if images > MOST_IMAGES:
        raise Problem(
            413,
            "too_many_images",
            f"The request holds {images} images; at most {MOST_IMAGES} are explained at once. "
            "Send several requests.",
        )
    if images > 1 and form == PNG:
        raise Problem(
            406,
            "not_acceptable",
            f"The request holds {images} images, and {PNG} is one: send one image, or take {JSON} with "
            "overlay=true.",
        )


async def _answers(
    parts: Parts, request: Request, key: VersionKey, images: Sequence[SentImage], preferred: Preferences
) -> list[Answer | None]:
    """In the order sent; None for what is no image."""
    sendable = [image.content for image in images if image.problem is None]
    caller = Caller(key_of(request), request_id_of(request), traceparent_of(request))
    classifying = classify(parts, caller, key, sendable, top_k=1, timeout_s=preferred.wait_s or None)
    answered = iter(await unless_disconnected(request, classifying))
    return [None if image.problem else next(answered) for image in images]


def _told(image: SentImage, answer: Answer | None) -> dict[str, Any]:
    error = None
    found: Explanation | None = None
    if image.problem:
        error = {"code": image.problem.code, "detail": image.problem.detail}
    elif answer is not None:
        outcome = answer.outcome
        found = outcome.explanation
        if outcome.error:
            error = {"code": outcome.error, "detail": outcome.detail or ""}
        elif found is None:
            # A worker of an earlier release has classified it and does not know what was asked.
            detail = "The worker is of an earlier release, which explains nothing: update all workers."
            error = {"code": "explanation_unavailable", "detail": detail}
    return {"name": image.name, **_explained(found), "error": error}


def _explained(found: Explanation | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(("class", "method", "map", "image", "region", "box", "overlay"))
    return {
        "class": found.explained,
        "method": found.method,
        "map": {"rows": found.rows, "low": found.low, "high": found.high, "unit": found.unit},
        "image": {"width": found.width, "height": found.height},
        "region": dict(zip(SIDES, found.region, strict=True)),
        "box": dict(zip(SIDES, found.box, strict=True)),
        "overlay": found.overlay,
    }


def _timings(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {}
    timings = answer.timings
    return {
        "wait_ms": round(answer.waited_ms, 2),
        "queue_ms": round(timings.queue_ms, 2),
        "decode_ms": round(timings.decode_ms, 2),
        "inference_ms": round(timings.inference_ms, 2),
        "batch_size": answer.batch_size,
    }
