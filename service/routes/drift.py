"""`/v1/models/{name}/versions/{number}/drift`: whether a version is still sent what it was validated on."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from service.auth import requires
from service.drift import Window
from service.parts import parts_of
from service.schemas.drift import DriftOut

router = APIRouter(
    prefix="/v1/models/{name}/versions/{number}/drift",
    tags=["models"],
    dependencies=[Depends(requires("classify"))],
)
WINDOW = "`hour`: this hour and the last; `day`: since this hour yesterday; `all`: as long as sketches are kept."


@router.get("", summary="Whether served images differ from the validation images")
async def get_drift(
    request: Request, name: str, number: int, window: Annotated[Window, Query(description=WINDOW)] = "day"
) -> DriftOut:
    """Compares the probabilities and embeddings of what was answered with those of the validation images; no image
    is kept for it. What classes come more or less often than among the validation images is a difference, too."""
    parts = parts_of(request)
    version = await asyncio.to_thread(parts.registry.get_version, name, number)
    await parts.sketches.write()
    return DriftOut.model_validate(await asyncio.to_thread(parts.drift.report, version, window))
