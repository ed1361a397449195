"""`POST /v1/models/{ref}/embed`: images in, what the network makes of each before it names a class out."""

import binascii
import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from models.artifact import PrecisionChoice
from models.spec import EMBEDDING
from service.auth import requires
from service.batcher import VersionKey
from service.classification import asked_precision
from service.errors import Problem
from service.idempotency import idempotency_key_of
from service.image_answers import ask, not_sent
from service.parts import parts_of
from service.preferences import Preferences, preferences
from service.routes.classify import PRECISION
from service.schemas.classification import CLASSIFY_BODY
from service.schemas.images import IMAGE_RESPONSES, Embeddings
from storage.registry import Version
from workers.contract.messages import ImageOutcome

Encoding = Literal["float", "base64"]
ENCODING = "`float`: a list of numbers. `base64`: float32, little-endian, in a third of the bytes."

router = APIRouter(tags=["classify"], dependencies=[Depends(requires("classify"))])


@router.post(
    "/v1/models/{reference}/embed",
    summary="The embedding of one image or many",
    response_model=Embeddings,
    responses=IMAGE_RESPONSES,
    openapi_extra=CLASSIFY_BODY,
)
async def embed(
    reference: str,
    request: Request,
    preferred: Annotated[Preferences, Depends(preferences)],
    encoding: Annotated[Encoding, Query(description=ENCODING)] = "float",
    precision: Annotated[PrecisionChoice, Query(description=PRECISION)] = "auto",
) -> Response:
    """What the last layer reads: as it is, of whatever length. One for each image in the order sent; errors as
    `classify` has them."""
    idempotency_key_of(request)
    version = await parts_of(request).versions.resolve(reference)
    key = VersionKey(
        version.model,
        version.number,
        version.artifact,
        asked_precision(version, precision),
        outputs=(EMBEDDING,),
    )
    dimensions = dimensions_of(version)
    answered = await ask(request, key, preferred)

    def read(outcome: ImageOutcome) -> dict[str, Any]:
        encoded = (outcome.outputs or {}).get(EMBEDDING)
        if encoded is None:
            raise not_sent(EMBEDDING)
        if encoding == "base64":
            return {EMBEDDING: encoded}
        return {EMBEDDING: memoryview(binascii.a2b_base64(encoded)).cast("f").tolist()}

    return answered.response(key, [EMBEDDING], read, dimensions=dimensions)


def dimensions_of(version: Version) -> int:
    """How many numbers an embedding has. Raises Problem 409 where the version's network has none."""
    shape = (version.manifest.get("outputs") or {}).get(EMBEDDING)
    if not shape:
        raise Problem(
            409,
            "embedding_unavailable",
            f"Version {version.number} of {version.model!r} ({version.architecture}) has no embedding: its "
            "graph has no layer that reads one row of numbers and gives the classes, or is older than that look.",
        )
    return math.prod(shape)
