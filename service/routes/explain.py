"""`POST /v1/models/{ref}/explain`: where in an image a class was seen, as numbers or as a picture."""

import base64
import difflib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from models.artifact import FLOAT32, PrecisionChoice
from models.explanation.method import AUTO, OCCLUSION, MethodChoice
from models.spec import FEATURE_MAP
from models.validation import InvalidField, InvalidFields, shortened
from service.auth import requires
from service.batcher import VersionKey
from service.classification import asked_precision
from service.errors import Problem, invalid_request
from service.idempotency import idempotency_key_of
from service.image_answers import ask, not_sent
from service.negotiation import wanted
from service.parts import parts_of
from service.preferences import Preferences, preferences
from service.schemas.classification import CLASSIFY_BODY
from service.schemas.explanation import EXPLAIN_RESPONSES, ExplanationOut
from storage.registry import Version
from workers.contract.messages import Explain, ImageOutcome

# Each costs more than to be classified, the 64 passes of occlusion most.
MOST_IMAGES = 16
JSON, PNG = "application/json", "image/png"
CLASS = "A label, or the number of a class; without it each image's most probable one."
METHOD = "`auto`: the first of `cam`, `recipro-cam` and `occlusion` that the version can be explained by."
PRECISION = "What the network is computed in; `auto` is `float32`."
OVERLAY = "With JSON: the picture that `Accept: image/png` gives, too, in base64."
SIDES = ("left", "top", "right", "bottom")
EXPLAINED = ("class", "method", "map", "image", "region", "box", "overlay")
VARY = {"Vary": "Accept"}

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
    idempotency_key_of(request)
    form = wanted(request.headers.get("accept", ""), (JSON, PNG))
    if form is None:
        raise Problem(406, "not_acceptable", f"Explanations come as {JSON} or {PNG}, by Accept.")
    version = await parts_of(request).versions.resolve(reference)
    why = Explain(index_of(label, version.labels), _method(version, method), overlay=overlay or form == PNG)
    asked = FLOAT32 if precision == AUTO else asked_precision(version, precision)
    key = VersionKey(version.model, version.number, version.artifact, asked, explain=why)
    answered = await ask(request, key, preferred, lambda images: _check_count(images, form))
    if form == PNG:
        drawn = base64.b64decode(_explained(answered.only_outcome())["overlay"])
        return Response(drawn, media_type=PNG, headers=VARY)
    return answered.response(key, EXPLAINED, _explained, VARY)


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


def _explained(outcome: ImageOutcome) -> dict[str, Any]:
    found = outcome.explanation
    if found is None:
        raise not_sent("explanations")
    return {
        "class": found.explained,
        "method": found.method,
        "map": {"rows": found.rows, "low": found.low, "high": found.high, "unit": found.unit},
        "image": {"width": found.width, "height": found.height},
        "region": dict(zip(SIDES, found.region, strict=True)),
        "box": dict(zip(SIDES, found.box, strict=True)),
        "overlay": found.overlay,
    }
