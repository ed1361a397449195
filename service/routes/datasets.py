"""`/v1/datasets`: labelled images, uploaded as an archive, checked by a job, immutable afterwards."""

import asyncio
import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from models.dataset.places import thumbnail_name
from models.formats import archive_kind, no_archive
from models.validation import shortened
from service.auth import key_of, requires
from service.errors import Problem
from service.idempotency import idempotency_of
from service.new_datasets import NewDataset, make
from service.parts import Parts, parts_of
from service.routes.jobs import job_out
from service.schemas.content import content
from service.schemas.datasets import ARCHIVE_BODY, UPLOAD_RESPONSES, DatasetAccepted, DatasetDetail, DatasetOut
from service.schemas.listing import Listing
from service.uploads import Upload, received
from storage.dataset_files import files_of
from storage.datasets import Dataset
from storage.errors import NotFound
from storage.job import Job
from workers.contract.jobs.datasets import IngestRequest
from workers.contract.queues import JobKind

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(requires("train"))])

SHA256 = re.compile("[0-9a-f]{64}")
OnFault = Literal["skip", "refuse"]
Labels = Literal["folders", "none"]
LABELS = (
    "`folders`: class folders, splits or a manifest. `none`: images to be classified, wherever in the archive; "
    "each file counts, copies and faulty ones too."
)


@router.post(
    "",
    summary="Upload a dataset",
    status_code=202,
    response_model=DatasetAccepted,
    responses=UPLOAD_RESPONSES,
    openapi_extra=ARCHIVE_BODY,
)
async def create(
    request: Request,
    name: Annotated[str, Query(min_length=1, max_length=200, description="For people; need not be unique.")],
    on_fault: Annotated[
        OnFault, Query(description="What is done with faulty files: leave them out, or refuse the dataset.")
    ] = "skip",
    labels: Annotated[Labels, Query(description=LABELS)] = "folders",
) -> JSONResponse:
    """The body is a zip, tar or tar.gz of class folders, of `train/ val/ test/` over class folders, or with a
    manifest (`file,label[,split]`), or of anything without labels, whatever its content type says. A job decodes
    every image once; then the report lists every fault."""
    parts = parts_of(request)
    await check_quota(parts, request)
    with parts.uploads.one(key_of(request)):
        async with received(
            request, parts.settings.uploads, parts.settings.max_upload_bytes, check_begin=check_is_archive
        ) as upload:
            dataset, job = await _keep(parts, request, upload, name, on_fault, labels)
    return accepted_dataset(dataset, job)


@router.get("", summary="Datasets, newest first")
async def list_datasets(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
    search: str | None = None,
) -> Listing[DatasetOut]:
    page = await asyncio.to_thread(parts_of(request).datasets.list, limit, cursor, search)
    return Listing[DatasetOut].model_validate(page)


@router.get("/{dataset_id}", summary="One dataset with its counts")
async def get_dataset(request: Request, dataset_id: str) -> DatasetDetail:
    dataset = await asyncio.to_thread(parts_of(request).datasets.get, dataset_id)
    return DatasetDetail.model_validate(dataset)


@router.get(
    "/{dataset_id}/report",
    summary="What the check found: every fault with file and reason",
    responses={409: {"description": "The dataset is still being checked."}},
)
async def report(request: Request, dataset_id: str) -> JSONResponse:
    dataset = await asyncio.to_thread(parts_of(request).datasets.get, dataset_id)
    if dataset.state == "checking":
        detail = f"Dataset {dataset_id} is still being checked; its report comes with that job's end."
        raise Problem(409, "not_checked_yet", detail, {"Retry-After": "1"})
    return JSONResponse(dataset.report)


@router.get(
    "/{dataset_id}/thumbnails/{sha256}",
    summary="A small picture of one sample (WEBP)",
    response_class=Response,
    responses=content("image/webp"),
)
async def thumbnail(request: Request, dataset_id: str, sha256: str) -> Response:
    parts = parts_of(request)
    if not SHA256.fullmatch(sha256):
        # Never a part of a blob's key: it may hold what no key can.
        raise NotFound("file", shortened(sha256))
    dataset = await asyncio.to_thread(parts.datasets.get, dataset_id)
    data = await asyncio.to_thread(files_of(parts.blobs, dataset).get_bytes, thumbnail_name(sha256))
    return Response(
        data, media_type="image/webp", headers={"Cache-Control": "private, immutable, max-age=31536000"}
    )


@router.delete("/{dataset_id}", summary="Delete a dataset", status_code=204)
async def delete(request: Request, dataset_id: str) -> Response:
    """Refused (409) while a job that has not ended uses it. An id that leads to another dataset goes alone.

    Images that revisions share stay for them: an image is gone once no dataset holds it."""
    parts = parts_of(request)
    dataset = await asyncio.to_thread(parts.datasets.delete, dataset_id)
    await asyncio.to_thread(parts.cleanup.shared_files.release, dataset)
    return Response(status_code=204)


async def _keep(
    parts: Parts, request: Request, upload: Upload, name: str, on_fault: OnFault, labels: Labels
) -> tuple[Dataset, Job]:
    """Keep the archive as a blob, then write the dataset and its job in one transaction, and send the job."""
    new = NewDataset(name, JobKind.INGEST, size_bytes=upload.size)
    key = f"jobs/{new.job_id}/upload"
    asked = IngestRequest(dataset=new.id, upload=key, name=name, on_fault=on_fault, labels=labels)
    await asyncio.to_thread(parts.blobs.put_file, key, upload.path)
    return await make(request, new, asked, idempotency_of(request, upload.sha256), [key])


def accepted_dataset(dataset: Dataset, job: Job) -> JSONResponse:
    """202 with the dataset, where to look for it, and the job that checks it."""
    body = DatasetAccepted(**DatasetOut.model_validate(dataset).model_dump(), job=job_out(job))
    return JSONResponse(
        body.model_dump(mode="json"), 202, headers={"Location": f"/v1/datasets/{dataset.id}", "Retry-After": "1"}
    )


async def check_quota(parts: Parts, request: Request) -> None:
    """Before gigabytes are received for nothing, unless it may be a repeated request. Raises StorageQuota."""
    owner = parts.limiter.owner(key_of(request))
    if owner and owner.most_bytes and "idempotency-key" not in request.headers:
        declared = int(request.headers.get("content-length", 0))
        await asyncio.to_thread(parts.datasets.check_quota, owner, added=declared)


def check_is_archive(begin: bytes) -> None:
    """By its first bytes: curl and browsers send archives under many content types. Raises Problem 415."""
    if archive_kind(begin) is None:
        form = " A form, perhaps? Send the file itself: curl -T dataset.zip." if begin.startswith(b"--") else ""
        raise Problem(415, "unsupported_media_type", f"The body cannot be a dataset: {no_archive(begin)}.{form}")
