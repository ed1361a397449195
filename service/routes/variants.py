"""`/v1/models/{name}/versions/{number}/variants`: faster forms of a version, tried and judged by a job."""

import asyncio

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from models.artifact import served_precisions
from models.dataset import builtin
from models.validation import shortened
from service.auth import requires
from service.checks import check_dataset, wrong_field
from service.idempotency import idempotency
from service.parts import Parts, parts_of
from service.routes.jobs import accepted, start_job
from service.schemas.jobs import JobOut
from service.schemas.models import VariantsOut
from storage.datasets import DatasetState
from storage.registry import Version
from workers.contract.jobs.variants import VariantsOptions, VariantsRequest
from workers.contract.queues import JobKind

router = APIRouter(
    prefix="/v1/models/{name}/versions/{number}/variants",
    tags=["models"],
    dependencies=[Depends(requires("classify"))],
)
SHOWN = 3


@router.get("", summary="The variants of a version that were tried, and how they did")
async def get_variants(request: Request, name: str, number: int) -> VariantsOut:
    """What passed is served; what did not says why, with the numbers."""
    version = await asyncio.to_thread(parts_of(request).registry.get_version, name, number)
    return VariantsOut(
        model=version.model,
        version=version.number,
        precisions=list(served_precisions(version.manifest.get("variants"))),
        variants=version.manifest.get("variants") or {},
    )


@router.post(
    "",
    summary="Try faster variants of a version",
    status_code=202,
    response_model=JobOut,
    dependencies=[Depends(requires("train"))],
)
async def try_variants(request: Request, name: str, number: int, body: VariantsOptions) -> JSONResponse:
    """A `variants` job: each precision is calibrated on some of the dataset's images and judged on others beside
    float32, whose answers stay as they are. It gives way to fine-tunes that wait."""
    parts = parts_of(request)
    version = await asyncio.to_thread(parts.registry.get_version, name, number)
    dataset = await check_dataset(parts, body.dataset)
    await _check_labels(parts, dataset, version)
    options = body.model_copy(update={"dataset": dataset})
    asked = VariantsRequest(model=version.model, version=version.number, **options.model_dump()).model_dump()
    return accepted(await start_job(request, JobKind.VARIANTS, asked, await idempotency(request)))


async def _check_labels(parts: Parts, dataset: str, version: Version) -> None:
    """Raises Problem 422 where no label of an uploaded dataset is one of the version's.

    Those of one that is being checked are not known yet.
    """
    if dataset in builtin.NAMES:
        return
    found = await asyncio.to_thread(parts.datasets.get, dataset)
    labels = found.labels
    if found.state is DatasetState.CHECKING:
        return
    if not set(labels) & set(version.labels):
        raise wrong_field(
            "dataset",
            f"none of its labels ({_some(labels)}) is one of the version's ({_some(version.labels)}): none of its "
            "images can judge",
        )


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(map(shortened, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")
