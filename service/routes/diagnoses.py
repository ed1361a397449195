"""`/v1/datasets/{id}/diagnosis`: what is wrong with a dataset's images, as a version sees them, found by a job."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from models.spec import EMBEDDING
from service.auth import requires
from service.browsers import NOTHING
from service.checks import check_dataset, wrong_field
from service.errors import Problem
from service.idempotency import idempotency
from service.parts import parts_of
from service.routes.jobs import accepted, start_job
from service.schemas.diagnoses import DiagnosisOut
from service.schemas.jobs import JobAccepted
from storage.errors import NotFound
from workers.contract.diagnoses import PAGE, REPORT, diagnosis_key
from workers.contract.jobs.diagnose import DiagnoseOptions, DiagnoseRequest
from workers.contract.queues import JobKind

router = APIRouter(
    prefix="/v1/datasets/{dataset_id}/diagnosis", tags=["datasets"], dependencies=[Depends(requires("train"))]
)


@router.post("", summary="Have a version look for what is wrong", status_code=202, response_model=JobAccepted)
async def start(request: Request, dataset_id: str, body: DiagnoseOptions) -> JSONResponse:
    """A `diagnose` job: probably wrong labels, images like none of their class, near-duplicates, classes that are
    not told apart, and images without influence, by the version's embeddings of all of the dataset's images."""
    parts = parts_of(request)
    found = await asyncio.to_thread(parts.datasets.get, dataset_id)
    dataset = await check_dataset(parts, found.id)
    version = await parts.versions.resolve(body.model)
    if EMBEDDING not in (version.manifest.get("outputs") or {}):
        raise wrong_field(
            "model",
            f"{version.model}:{version.number} gives no embedding, which images are compared by; name another one",
        )
    asked = DiagnoseRequest(model=version.model, version=version.number, dataset=dataset)
    key = await idempotency(request)
    return accepted(await start_job(request, JobKind.DIAGNOSE, asked.model_dump(), key))


@router.get(
    "",
    summary="The newest diagnosis of a dataset",
    response_model=DiagnosisOut,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def get_diagnosis(
    request: Request,
    dataset_id: str,
    form: Annotated[
        Literal["json", "html"], Query(alias="format", description="`html`: a page with pictures.")
    ] = "json",
) -> Response:
    parts = parts_of(request)
    dataset = await asyncio.to_thread(parts.datasets.get, dataset_id)
    name = REPORT if form == "json" else PAGE
    try:
        written = await asyncio.to_thread(parts.blobs.get_bytes, diagnosis_key(dataset.id, name))
    except NotFound as missing:
        detail = f"Dataset {dataset_id} has no diagnosis yet: POST /v1/datasets/{dataset_id}/diagnosis makes one."
        raise Problem(404, "unknown_diagnosis", detail) from missing
    if form == "json":
        return Response(written, media_type="application/json")
    # As of a version's card: nothing in it runs, and nothing is loaded.
    policy = f"{NOTHING}; img-src data:; style-src 'unsafe-inline'; sandbox"
    return HTMLResponse(written, headers={"Content-Security-Policy": policy})
