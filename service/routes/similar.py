"""`POST /v1/models/{ref}/similar`: images in, the most similar of those that the version was taught out."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from models.artifact import PrecisionChoice
from service.auth import requires
from service.batcher import VersionKey
from service.classification import asked_precision
from service.errors import Problem
from service.idempotency import idempotency_key_of
from service.image_answers import AnsweredImages, ask, not_sent
from service.parts import Parts, parts_of
from service.preferences import Preferences, preferences
from service.routes.classify import PRECISION
from service.schemas.classification import CLASSIFY_BODY
from service.schemas.images import IMAGE_RESPONSES, SimilarImages
from storage.datasets import DatasetState
from storage.errors import NotFound
from storage.registry import Version
from workers.contract.messages import ImageOutcome

NEIGHBOURS = "neighbours"  # the finding of a fine-tune
MOST_SIMILAR = 50

# The names and pictures of a dataset's images are for those who may read the dataset.
router = APIRouter(tags=["classify"], dependencies=[Depends(requires("train"))])


@router.post(
    "/v1/models/{reference}/similar",
    summary="The training images most similar to one image or many",
    response_model=SimilarImages,
    responses=IMAGE_RESPONSES,
    openapi_extra=CLASSIFY_BODY,
)
async def similar(
    reference: str,
    request: Request,
    preferred: Annotated[Preferences, Depends(preferences)],
    k: Annotated[int, Query(ge=1, le=MOST_SIMILAR, description="Training images to name for each image.")] = 5,
    precision: Annotated[PrecisionChoice, Query(description=PRECISION)] = "auto",
) -> Response:
    """Nearest first, by the cosine distance of the embeddings. Where the dataset was deleted since, its images
    have neither name nor thumbnail. Errors as `classify` has them."""
    idempotency_key_of(request)
    parts = parts_of(request)
    version = await parts.versions.resolve(reference)
    asked = asked_precision(version, precision)
    require_neighbours(version)
    key = VersionKey(version.model, version.number, version.artifact, asked, similar=k)
    answered = await ask(request, key, preferred)
    dataset, names = await asyncio.to_thread(_names, parts, version, answered)

    def read(outcome: ImageOutcome) -> dict[str, Any]:
        if outcome.similar is None:
            raise not_sent("similar images")
        found = [
            {
                "label": near.label,
                "distance": near.distance,
                "sha256": near.sha256,
                "name": names.get(near.sha256),
                "thumbnail": _thumbnail(dataset["id"], near.sha256) if near.sha256 in names else None,
            }
            for near in outcome.similar
        ]
        return {"similar": found}

    return answered.response(key, ["similar"], read, dataset=dataset)


def require_neighbours(version: Version) -> None:
    """Raises Problem 409 where the version has no embeddings of training images."""
    finding = (version.manifest.get("findings") or {}).get(NEIGHBOURS) or {}
    if finding.get("images"):
        return
    why = finding.get("reason") or "only what a fine-tune of this release or a later one has made has them"
    raise Problem(
        409,
        "neighbours_unavailable",
        f"Version {version.number} of {version.model!r} has no embeddings of training images: {why}.",
    )


def _names(parts: Parts, version: Version, answered: AnsweredImages) -> tuple[dict[str, Any], dict[str, str]]:
    """The dataset that the version was taught, as far as it is there, and its images' names by their sha256."""
    told = version.manifest.get("dataset") or {}
    described = {"id": told.get("id"), "name": told.get("name"), "state": "deleted"}
    if str(described["id"]).startswith("builtin:"):
        return {**described, "state": "builtin"}, {}
    outcomes = [answer.outcome for answer in answered.answers if not isinstance(answer, Problem)]
    wanted = {near.sha256 for outcome in outcomes for near in outcome.similar or ()}
    try:
        dataset = parts.datasets.get(str(described["id"]))
        if dataset.state != DatasetState.READY:
            return described, {}
        return {**described, "state": "ready"}, parts.dataset_images.names(dataset.prefix, wanted)
    except NotFound:
        return described, {}


def _thumbnail(dataset: str, sha256: str) -> str:
    return f"/v1/datasets/{dataset}/thumbnails/{sha256}"
