"""`/v2`: the Open Inference Protocol by REST, with the extensions of Triton's that clients read.

Models are called by any model reference: `ants-bees`, `ants-bees@candidate`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version as release_of
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Scope

from service.auth import key_of, requires
from service.classification import Caller
from service.direct_route import DirectRoute
from service.disconnection import unless_disconnected
from service.errors import request_id_of
from service.parts import parts_of, traceparent_of
from service.protocol import readiness
from service.protocol.body import read_infer
from service.protocol.inference import Inference, contents, infer
from service.protocol.model import EXTENSIONS, Json, config, index, metadata, reference_of, statistics
from service.protocol.schemas import INFER_BODY, INFER_RESPONSES, IndexRequest
from storage.registry import Version


class InferRoute(DirectRoute):
    """Reads every request whose path says it all."""

    def arguments(self, scope: Scope) -> Mapping[str, Any] | None:
        return None if scope["query_string"] else scope["path_params"]


health = APIRouter(prefix="/v2", tags=["open inference protocol"])
router = APIRouter(prefix="/v2", tags=["open inference protocol"], dependencies=[Depends(requires("classify"))])
inference = APIRouter(
    prefix="/v2",
    tags=["open inference protocol"],
    dependencies=[Depends(requires("classify"))],
    route_class=InferRoute,
)


@health.get("/health/live", summary="The gateway's process answers")
async def live() -> Json:
    return {"live": True}


@health.get("/health/ready", summary="Images can be classified", responses={503: {"description": "They cannot."}})
async def ready(request: Request) -> JSONResponse:
    is_ready = await readiness.of_server(parts_of(request))
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@router.get("", summary="What answers here, and which extensions of the protocol it has")
async def server() -> Json:
    return {"name": "fovea", "version": release_of("fovea"), "extensions": list(EXTENSIONS)}


@router.get("/models/stats", summary="Statistics of all versions that were used since this gateway started")
async def all_statistics(request: Request) -> Json:
    found = parts_of(request).statistics.all()
    return {"model_stats": [statistics(model, number, stats) for (model, number), stats in found]}


async def current_version(request: Request, name: str) -> Version:
    """The one that the model reference names."""
    return await parts_of(request).versions.resolve(name)


async def numbered_version(request: Request, name: str, number: str) -> Version:
    return await parts_of(request).versions.resolve(reference_of(name, number))


def _describe(path: str, resolve: Callable[..., Awaitable[Version]], what: str) -> None:
    """Add the calls that tell of a version, which `resolve` finds by the path."""
    resolved = Annotated[Version, Depends(resolve)]

    @router.get(path, summary=f"The tensors of {what}, and all versions of the model")
    async def model_metadata(request: Request, name: str, version: resolved) -> Json:
        numbers = await asyncio.to_thread(parts_of(request).registry.numbers, version.model)
        return metadata(name, version, numbers)

    @router.get(f"{path}/ready", summary=f"Whether {what} can be asked")
    async def model_ready(request: Request, name: str, _: resolved) -> JSONResponse:
        is_ready = readiness.of_workers(parts_of(request))
        return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    @router.get(f"{path}/config", summary=f"The configuration of {what}, as Triton's clients read it")
    async def model_config(request: Request, name: str, version: resolved) -> Json:
        return config(name, version, parts_of(request).settings.max_images)

    @router.get(f"{path}/stats", summary=f"What this gateway has had of {what} since it started")
    async def model_statistics(request: Request, name: str, version: resolved) -> Json:
        found = parts_of(request).statistics.of(version.model, version.number)
        return {"model_stats": [statistics(name, version.number, found)]}


_describe("/models/{name}", current_version, "a model")
_describe("/models/{name}/versions/{number}", numbered_version, "a version")


@router.post("/repository/index", summary="Every version that can be asked")
async def repository_index(request: Request, _: IndexRequest | None = None) -> list[Json]:
    """A worker loads a version when it is asked for, so that all are ready, and `ready` leaves out none."""
    return index(await asyncio.to_thread(parts_of(request).registry.all_numbers))


@inference.post(
    "/models/{name}/infer", summary="Classify images", responses=INFER_RESPONSES, openapi_extra=INFER_BODY
)
async def model_infer(request: Request, name: str) -> Response:
    """Images in a tensor, encoded (BYTES) or prepared (UINT8); the network's outputs as tensors.

    With the header `Inference-Header-Content-Length: 0` the body is one image and nothing else.
    """
    return await _infer(request, await current_version(request, name))


@inference.post(
    "/models/{name}/versions/{number}/infer",
    summary="Classify images by a version",
    responses=INFER_RESPONSES,
    openapi_extra=INFER_BODY,
)
async def version_infer(request: Request, name: str, number: str) -> Response:
    """As by the model alone."""
    return await _infer(request, await numbered_version(request, name, number))


async def _infer(request: Request, version: Version) -> Response:
    parts = parts_of(request)
    async with parts.intake.reception(key_of(request)) as reception:
        asked, images = await read_infer(request, version, reception)
        caller = Caller(key_of(request), request_id_of(request), traceparent_of(request))
        answering = infer(parts, caller, version, asked, contents(images))
        found = await unless_disconnected(request, answering)
        reception.answered(images)
    binary = frozenset(wanted.name for wanted in asked.outputs if wanted.binary)
    return _answer(found, binary)


def _answer(found: Inference, binary: frozenset[str]) -> Response:
    """JSON, and behind it those of its tensors that are to be `binary`."""
    head = orjson.dumps(
        {
            "model_name": found.version.model,
            "model_version": str(found.version.number),
            **({"id": found.id} if found.id else {}),
            "parameters": {"provider": found.provider, "precision": found.precision},
            "outputs": [
                {
                    "name": output.name,
                    "datatype": output.datatype,
                    "shape": output.shape,
                    **(
                        {"parameters": {"binary_data_size": len(output.content)}}
                        if output.name in binary
                        else {"data": output.values()}
                    ),
                }
                for output in found.outputs
            ],
        }
    )
    if not binary:
        return Response(head, media_type="application/json")
    behind = [output.content for output in found.outputs if output.name in binary]
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Response(b"".join([head, *behind]), headers=headers, media_type="application/octet-stream")
