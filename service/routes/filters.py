"""`/v1/models/{name}/versions/{number}/filters`: what a version's network sees, as facts and as pictures."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from models.filters.files import FACTS, FINDING, PICTURE, picture_key
from models.validation import shortened
from service.auth import requires
from service.errors import Problem
from service.parts import Parts, parts_of
from service.schemas.content import content
from service.schemas.models import FiltersOut
from storage.errors import NotFound
from storage.registry import Version

router = APIRouter(
    prefix="/v1/models/{name}/versions/{number}/filters",
    tags=["models"],
    dependencies=[Depends(requires("classify"))],
)
MEDIA_TYPES = {"png": "image/png", "webp": "image/webp"}
# A link that names a picture's content can never lead to another one; a number may, once its version is deleted.
FOR_GOOD, ASK_AGAIN = "private, immutable, max-age=31536000", "private, no-cache"
Sha256 = Annotated[
    str | None, Query(pattern="^[0-9a-f]{64}$", description="The picture's, as its link has it: kept for good.")
]


@router.get("", summary="What the network of a version sees", response_model=FiltersOut)
async def filters(request: Request, name: str, number: int) -> Response:
    """Its first layer's kernels, and for filters of deeper layers the patches of validation images that excite
    them most: which images, where, and how strongly. Of a version that was not trained here, the kernels alone."""
    parts = parts_of(request)
    version = await asyncio.to_thread(parts.registry.get_version, name, number)
    if FINDING not in (version.manifest.get("findings") or {}):
        detail = f"Nobody looked at the filters of version {number} of model {name!r}; train or publish it again."
        raise Problem(404, "unknown_filters", detail)
    facts = orjson.loads(await _file(parts, version, FACTS))
    for shown in (facts["kernels"], *facts["layers"]):
        shown["url"] = _url(version, shown["picture"])
    found = {"model": version.model, "version": version.number, **facts}
    return Response(orjson.dumps(found), media_type="application/json")


@router.get(
    "/{picture}",
    summary="A picture of filters (PNG or WEBP)",
    response_class=Response,
    responses={
        **content(*MEDIA_TYPES.values()),
        304: {"description": "The picture of `If-None-Match` is the one."},
    },
)
async def picture(request: Request, name: str, number: int, picture: str, sha256: Sha256 = None) -> Response:
    """The kernels as `kernels.png`, a layer's patches under the name that `picture` says."""
    parts = parts_of(request)
    version = await asyncio.to_thread(parts.registry.get_version, name, number)
    entry = _listed(version, picture)
    if entry is None or sha256 not in (None, entry):
        detail = (
            f"Version {number} of model {name!r} has no such picture as {shortened(picture)}; see its filters."
        )
        raise Problem(404, "unknown_filters", detail)
    headers = {"Cache-Control": FOR_GOOD if sha256 else ASK_AGAIN, "ETag": f'"{entry}"'}
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    data = await _file(parts, version, picture_key(picture))
    return Response(data, media_type=MEDIA_TYPES[picture.rpartition(".")[2]], headers=headers)


def _url(version: Version, picture: str | None) -> str | None:
    if picture is None:
        return None
    base = f"/v1/models/{version.model}/versions/{version.number}/filters/{picture}"
    sha256 = _listed(version, picture)
    return f"{base}?sha256={sha256}" if sha256 else base


def _listed(version: Version, picture: str) -> str | None:
    """The sha256 of a picture's file, by the manifest; None where it is none of the version's."""
    if not PICTURE.fullmatch(picture):
        return None
    files: dict[str, Any] = version.manifest.get("files") or {}
    entry = files.get(picture_key(picture))
    return None if entry is None else str(entry["sha256"])


async def _file(parts: Parts, version: Version, name: str) -> bytes:
    try:
        return await asyncio.to_thread(parts.blobs.get_bytes, f"{version.artifact.rstrip('/')}/{name}")
    except NotFound as missing:
        detail = f"The file {name} of version {version.number} of model {version.model!r} is gone."
        raise Problem(404, "unknown_filters", detail) from missing
