"""`POST /v1/classifications`: many images as one job; `GET /v1/jobs/{id}/results`: a line for each of them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from models.validation import InvalidField, InvalidFields
from service.auth import requires
from service.checks import check_dataset, check_image_folder
from service.classification import asked_coverage
from service.errors import Problem, invalid_request
from service.idempotency import idempotency
from service.negotiation import wanted
from service.parts import parts_of
from service.results import CSV, KINDS, MEDIA_TYPES, csv_of, stored_results
from service.routes.jobs import accepted, existing_job, start_job
from service.schemas.jobs import JobAccepted
from service.schemas.results import RESULTS_RESPONSES
from storage.job import Job, JobState
from workers.contract.jobs.classify_many import ClassifyManyOptions, ClassifyManyRequest
from workers.contract.queues import JobKind

router = APIRouter(tags=["classify"], dependencies=[Depends(requires("classify"))])

# Each goes on where the one before ended, so that many of them are no sign that there is no end.
ATTEMPTS = 10
DIFFERING = "Of an evaluation of several versions: only the images on which not all give the same answer."
PARTIAL = "Also of a job that has not ended, or ended otherwise: the lines that are there, in their order."


@router.post(
    "/v1/classifications",
    summary="Classify a dataset or a folder of images",
    status_code=202,
    response_model=JobAccepted,
)
async def start(request: Request, body: ClassifyManyOptions) -> JSONResponse:
    """A `classify_many` job: of a dataset, with labels or without, or of a folder (`prefix`) that the operator put
    below `images/` of the store of files. It goes on after whatever ends its worker, and has a line for each image
    under `/v1/jobs/{id}/results`."""
    parts = parts_of(request)
    version = await parts.versions.resolve(body.model)
    precision = asked_coverage(version, body.coverage, body.precision)
    dataset = body.dataset
    if dataset is not None:
        dataset = await check_dataset(parts, dataset, to_learn=False)
    if body.prefix is not None:
        await check_image_folder(parts, body.prefix)
    asked = ClassifyManyRequest(
        model=version.model,
        version=version.number,
        dataset=dataset,
        prefix=body.prefix,
        top_k=min(body.top_k, len(version.labels)),
        precision=precision,
        coverage=body.coverage,
        on_unknown=body.on_unknown,
    )
    key = await idempotency(request)
    return accepted(
        await start_job(request, JobKind.CLASSIFY_MANY, asked.model_dump(), key, max_attempts=ATTEMPTS)
    )


@router.get(
    "/v1/jobs/{job_id}/results",
    summary="A line for each image that a job classified",
    response_class=StreamingResponse,
    responses=RESULTS_RESPONSES,
)
async def results(
    request: Request,
    job: Annotated[Job, Depends(existing_job)],
    partial: Annotated[bool, Query(description=PARTIAL)] = False,
    differing: Annotated[bool, Query(description=DIFFERING)] = False,
) -> StreamingResponse:
    """As JSON Lines (`application/jsonl`, or `application/x-ndjson`) or as CSV (`text/csv`), by `Accept`.
    `classify`, `classify_many` and `evaluate` jobs have them."""
    if job.kind not in KINDS:
        detail = (
            f"A {job.kind} job has no lines of results; what came of it is in `result` of GET /v1/jobs/{job.id}."
        )
        raise Problem(404, "no_results", detail)
    if differing and job.kind != JobKind.EVALUATE:
        told = f"a {job.kind} job compares no versions; leave it out"
        raise invalid_request(InvalidFields((InvalidField("query.differing", told),)))
    accept = ",".join(request.headers.getlist("accept"))
    media_type = wanted(accept, MEDIA_TYPES)
    if media_type is None:
        raise Problem(406, "not_acceptable", f"These results come as {', '.join(MEDIA_TYPES)}, by Accept.")
    if job.state is not JobState.SUCCEEDED and not partial:
        raise _incomplete(job)
    lines = await asyncio.to_thread(stored_results, parts_of(request).blobs, job, only_differing=differing)
    chunks = csv_of(lines, job) if media_type == CSV else lines
    return StreamingResponse(chunks, media_type=media_type, headers={"Vary": "Accept"})


def _incomplete(job: Job) -> Problem:
    """Nobody takes a part for the whole without having asked for it."""
    asking = "?partial=true gives the lines that are there."
    if job.state.is_terminal:
        why = f": {job.error['detail']}" if job.error else "."
        return Problem(409, "results_incomplete", f"Job {job.id} {job.state}{why} {asking}")
    detail = f"Job {job.id} is {job.state}; wait for its end. {asking}"
    return Problem(409, "results_incomplete", detail, {"Retry-After": "1"})
