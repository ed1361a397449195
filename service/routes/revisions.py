"""`/v1/datasets/{id}/revisions`: a dataset with changes becomes another one, which shares its files."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from models.validation import InvalidField, InvalidFields
from service.auth import key_of, requires
from service.checks import check_dataset
from service.errors import Problem, invalid_request
from service.idempotency import idempotency_of
from service.new_datasets import NewDataset, make
from service.parts import Parts, parts_of
from service.revision_uploads import RevisionUpload, received_revision
from service.routes.datasets import accepted_dataset, check_quota
from service.schemas.datasets import DatasetAccepted, DatasetOut
from service.schemas.listing import Listing
from service.schemas.revisions import REVISION_BODY, REVISION_RESPONSES
from storage.datasets import Dataset, DatasetState
from storage.job import Job
from workers.contract.jobs.datasets import ReviseRequest
from workers.contract.queues import JobKind

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(requires("train"))])


@router.post(
    "/{dataset_id}/revisions",
    summary="Correct a dataset",
    status_code=202,
    response_model=DatasetAccepted,
    responses=REVISION_RESPONSES,
    openapi_extra=REVISION_BODY,
)
async def revise(request: Request, dataset_id: str) -> JSONResponse:
    """A new dataset: this one with images relabelled, moved to another split, removed and added, which shares the
    files of all others. A job makes it, all of the changes or none; its report says what was changed, or which
    change cannot be made. This one stays as it is."""
    parts = parts_of(request)
    parent = await _revisable(parts, dataset_id)
    await check_quota(parts, request)
    with parts.uploads.one(key_of(request)):
        async with received_revision(request, parts.settings.uploads, parts.settings.max_upload_bytes) as upload:
            _check(upload, parent)
            return accepted_dataset(*await _keep(parts, request, parent, upload))


@router.get("/{dataset_id}/revisions", summary="A dataset's family, newest first")
async def list_revisions(
    request: Request,
    dataset_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Listing[DatasetOut]:
    """What was uploaded and everything that was made of it by revisions, as far as it is there."""
    datasets = parts_of(request).datasets
    dataset = await asyncio.to_thread(datasets.get, dataset_id)
    page = await asyncio.to_thread(datasets.list, limit, cursor, family_of=dataset.root)
    return Listing[DatasetOut].model_validate(page)


async def _revisable(parts: Parts, dataset_id: str) -> Dataset:
    """Raises NotFound, and Problem 409 where it is not ready or has no labels."""
    dataset = await asyncio.to_thread(parts.datasets.get, dataset_id)
    if dataset.state is DatasetState.CHECKING:
        detail = f"Dataset {dataset_id} is still being checked; it can be revised when that job has ended."
        raise Problem(409, "not_checked_yet", detail, {"Retry-After": "1"})
    await check_dataset(parts, dataset.id)
    return dataset


def _check(upload: RevisionUpload, parent: Dataset) -> None:
    """Raises Problem 422 where nothing is to be changed, 409 where another content was meant."""
    if not upload.options.changes_something and upload.archive is None:
        message = "nothing is to be changed; expected one of relabel, remove and move, or a form with an archive"
        raise invalid_request(InvalidFields((InvalidField("body", message),)))
    expected = upload.options.base_content_hash
    if expected is not None and expected != parent.content_hash:
        detail = f"Dataset {parent.id} has the content hash {parent.content_hash}, and {expected} is meant."
        raise Problem(409, "conflict", detail)


async def _keep(parts: Parts, request: Request, parent: Dataset, upload: RevisionUpload) -> tuple[Dataset, Job]:
    """Keep changes and archive as blobs, write the dataset and its job, and send it."""
    options, archive = upload.options, upload.archive
    name = options.name or parent.name
    new = NewDataset(name, JobKind.REVISE, archive.size if archive else 0, parent)
    changes, key = f"jobs/{new.job_id}/changes", f"jobs/{new.job_id}/upload" if archive else ""
    asked = ReviseRequest(
        dataset=new.id, parent=parent.id, changes=changes, upload=key, name=name, on_fault=options.on_fault
    )
    idempotency = idempotency_of(request, await asyncio.to_thread(lambda: upload.sha256))
    await asyncio.to_thread(parts.blobs.put_bytes, changes, options.model_dump_json().encode())
    if archive:
        await asyncio.to_thread(parts.blobs.put_file, key, archive.path)
    return await make(request, new, asked, idempotency, [changes, *([key] if archive else [])])
