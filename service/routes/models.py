"""`/v1/models`: the registry, aliases, and publishing zoo weights as a version (a file: `model_files`)."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from models.artifact import served_precisions
from models.card.version import insert_version
from service.archives import zipped
from service.auth import requires
from service.batcher import VersionKey
from service.browsers import NOTHING
from service.checks import check_architecture, check_weights
from service.errors import PASSING, Problem
from service.idempotency import idempotency
from service.parts import Parts, parts_of
from service.routes.jobs import accepted, start_job
from service.schemas.aliases import AliasMoveOut, AliasOut, AliasRequest, RollbackRequest
from service.schemas.content import content
from service.schemas.jobs import JobOut
from service.schemas.listing import Listing
from service.schemas.model_files import MODEL_FILE_BODY, MODEL_FILE_RESPONSES
from service.schemas.models import ModelOut, ModelPatch, VersionDetail, VersionOut
from service.schemas.patch import merge_patch
from storage.errors import Conflict, NoEarlierVersion, NotFound
from storage.reference import MOST_TAGS, check_model_name
from workers.contract.jobs.publish import PublishOptions, PublishRequest
from workers.contract.queues import JobKind

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[Depends(requires("classify"))])
ADMIN = [Depends(requires("admin"))]
TRAIN = [Depends(requires("train"))]
LOADING_TIMEOUT_S = 30.0
MOST_MOVES = 100
Limit = Annotated[int, Query(ge=1, le=200)]
Force = Annotated[bool, Query(description="Delete it although an alias points at it, and the alias too.")]


@router.get("", summary="Models by name")
async def list_models(
    request: Request,
    limit: Limit = 50,
    cursor: str | None = None,
    search: Annotated[str | None, Query(description="A part of the name or the description.")] = None,
    tag: Annotated[list[str], Query(max_length=MOST_TAGS, description="Given several times: all of them.")] = [],  # noqa: B006
) -> Listing[ModelOut]:
    page = await asyncio.to_thread(parts_of(request).registry.list_models, limit, cursor, search, tag)
    return Listing[ModelOut].model_validate(page)


@router.get("/{name}", summary="One model")
async def get_model(request: Request, name: str) -> ModelOut:
    return ModelOut.model_validate(await asyncio.to_thread(parts_of(request).registry.get_model, name))


@router.patch(
    "/{name}",
    summary="Describe and tag a model",
    dependencies=TRAIN,
    openapi_extra=merge_patch(ModelPatch),
)
async def describe_model(request: Request, name: str, body: ModelPatch) -> ModelOut:
    """A JSON merge patch (RFC 7396): what is left out stays, null removes, a list replaces the list before.

    It changes nothing of what the model answers."""
    patch = {field: getattr(body, field) for field in body.model_fields_set}
    if "tags" in patch:
        patch["tags"] = patch["tags"] or ()
    return ModelOut.model_validate(
        await asyncio.to_thread(parts_of(request).registry.describe_model, name, **patch)
    )


@router.delete("/{name}", summary="Delete a model and all its versions", status_code=204, dependencies=ADMIN)
async def delete_model(request: Request, name: str, force: Force = False) -> Response:
    """Refused (409) while it has an alias, unless `force`."""
    parts = parts_of(request)
    versions = await asyncio.to_thread(parts.registry.delete_model, name, force=force)
    parts.versions.forget()
    for version in versions:
        await asyncio.to_thread(parts.blobs.delete_prefix, version.artifact)
    return Response(status_code=204)


@router.get("/{name}/versions", summary="A model's versions, newest first")
async def list_versions(
    request: Request, name: str, limit: Limit = 50, cursor: str | None = None
) -> Listing[VersionOut]:
    page = await asyncio.to_thread(parts_of(request).registry.list_versions, name, limit, cursor)
    return Listing[VersionOut].model_validate(page)


@router.post(
    "/{name}/versions",
    summary="Publish zoo weights, or a model file of your own, as a version",
    status_code=202,
    response_model=JobOut,
    dependencies=TRAIN,
    responses=MODEL_FILE_RESPONSES,
    openapi_extra=MODEL_FILE_BODY,
)
async def publish(request: Request, name: str, body: PublishOptions) -> JSONResponse:
    """A `publish` job: weights are fetched and verified, exported to ONNX, proven equal to torch, and served.

    A form brings a file instead: an ONNX graph, which is checked, tried and proven equal to itself as it was sent,
    or a checkpoint of an architecture of the zoo.
    """
    parts = parts_of(request)
    check_model_name(name)
    check_architecture(body.architecture, body.architecture_params)
    await check_weights(parts, body.architecture, body.weights, references=False)
    asked = PublishRequest(model=name, **body.model_dump()).model_dump()
    return accepted(await start_job(request, JobKind.PUBLISH, asked, await idempotency(request)))


@router.get("/{name}/versions/{number}", summary="One version with its manifest")
async def get_version(request: Request, name: str, number: int) -> VersionDetail:
    version = await asyncio.to_thread(parts_of(request).registry.get_version, name, number)
    return VersionDetail.model_validate(version)


@router.get(
    "/{name}/versions/{number}/artifact",
    summary="The version's files as a zip",
    response_class=StreamingResponse,
    responses=content("application/zip"),
)
async def artifact(request: Request, name: str, number: int) -> StreamingResponse:
    """`model.onnx`, `manifest.json`, the card and its plots: what another machine needs to serve it."""
    parts = parts_of(request)
    version = await asyncio.to_thread(parts.registry.get_version, name, number)
    files = {
        key.removeprefix(version.artifact): key
        for key in await asyncio.to_thread(parts.blobs.list, version.artifact)
    }
    disposition = f'attachment; filename="{name}-{number}.zip"'
    return StreamingResponse(
        zipped(parts.blobs, files), media_type="application/zip", headers={"Content-Disposition": disposition}
    )


@router.get(
    "/{name}/versions/{number}/card",
    summary="How good it is and where it comes from, as a page",
    response_class=HTMLResponse,
    responses=content("text/html", "text/markdown"),
)
async def card(
    request: Request,
    name: str,
    number: int,
    form: Annotated[Literal["html", "md"], Query(alias="format")] = "html",
) -> Response:
    parts = parts_of(request)
    version = await asyncio.to_thread(parts.registry.get_version, name, number)
    try:
        written = await asyncio.to_thread(parts.blobs.get_bytes, f"{version.artifact.rstrip('/')}/card.{form}")
    except NotFound as missing:
        detail = f"Version {number} of model {name!r} was published without a card; publish it again to get one."
        raise Problem(404, "unknown_card", detail) from missing
    _, *variants = served_precisions(version.manifest.get("variants"))
    text = insert_version(written, form, version.number, version.aliases, variants)
    if form == "md":
        return Response(text, media_type="text/markdown")
    # The page is self-contained: nothing in it runs, and nothing is loaded. Its tables and plots have styles of
    # their own, which can do no more than look otherwise.
    policy = f"{NOTHING}; img-src data:; style-src 'unsafe-inline'; sandbox"
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})


@router.delete("/{name}/versions/{number}", summary="Delete a version", status_code=204, dependencies=ADMIN)
async def delete_version(request: Request, name: str, number: int, force: Force = False) -> Response:
    """Refused (409) while an alias points at it, unless `force`."""
    parts = parts_of(request)
    version = await asyncio.to_thread(parts.registry.delete_version, name, number, force=force)
    parts.versions.forget()
    await asyncio.to_thread(parts.blobs.delete_prefix, version.artifact)
    return Response(status_code=204)


@router.get("/{name}/aliases/{alias}", summary="Where an alias points, and pointed before")
async def get_alias(request: Request, name: str, alias: str) -> AliasOut:
    found = await asyncio.to_thread(parts_of(request).registry.get_alias, name, alias)
    history = [AliasMoveOut.model_validate(move) for move in found.history[:MOST_MOVES]]
    return AliasOut(model=name, alias=alias, version=found.version, previous=found.previous, history=history)


@router.put("/{name}/aliases/{alias}", summary="Point an alias at a version", dependencies=ADMIN)
async def set_alias(request: Request, name: str, alias: str, body: AliasRequest) -> ModelOut:
    """A worker loads and warms the version first, so that no request waits for it; one that cannot be loaded is
    refused, and the alias stays where it was."""
    parts = parts_of(request)
    await _load(parts, name, body.version)
    model = await asyncio.to_thread(parts.registry.set_alias, name, alias, body.version)
    parts.versions.forget()
    return ModelOut.model_validate(model)


@router.post("/{name}/aliases/{alias}/rollback", summary="Undo an alias's last move", dependencies=ADMIN)
async def rollback(request: Request, name: str, alias: str, body: RollbackRequest | None = None) -> ModelOut:
    """Back to the version that it was at before, by its history; versions deleted meanwhile are passed over. That
    version is loaded and warmed first, as when an alias is set."""
    parts = parts_of(request)
    found = await asyncio.to_thread(parts.registry.get_alias, name, alias)
    if body and body.present not in (None, found.version):
        raise Conflict(f"{name}@{alias} is at version {found.version}, not {body.present}; nothing was changed.")
    if found.previous is None:
        raise NoEarlierVersion(name, alias, found.version)
    await _load(parts, name, found.previous)
    model = await asyncio.to_thread(parts.registry.rollback, name, alias, present=found.version, to=found.previous)
    parts.versions.forget()
    return ModelOut.model_validate(model)


@router.delete("/{name}/aliases/{alias}", summary="Remove an alias", status_code=204, dependencies=ADMIN)
async def delete_alias(request: Request, name: str, alias: str) -> Response:
    parts = parts_of(request)
    await asyncio.to_thread(parts.registry.delete_alias, name, alias)
    parts.versions.forget()
    return Response(status_code=204)


async def _load(parts: Parts, name: str, number: int) -> None:
    """Have a worker load and warm the version.

    Raises NotFound, and Problem: 409 where the version cannot be loaded, 503 where something else is away.
    """
    version = await asyncio.to_thread(parts.registry.get_version, name, number)
    key = VersionKey(name, version.number, version.artifact)
    if failed := await parts.batcher.load(key, timeout_s=LOADING_TIMEOUT_S):
        if failed.error in PASSING:
            detail = f"A worker could not load version {version.number}: {failed.detail} Try again in a moment."
            raise Problem(503, failed.error, detail, {"Retry-After": "2"})
        raise Problem(409, "artifact_unusable", f"Version {version.number} cannot be loaded: {failed.detail}")
