"""`GET /v1/datasets/{id}/images`: a dataset's images, page by page."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from models.dataset.sample import Sample, SplitName
from service.auth import requires
from service.errors import Problem
from service.parts import Parts, parts_of
from service.schemas.images import DatasetImageOut
from service.schemas.listing import Listing
from storage.datasets import DatasetState
from storage.page import Page

router = APIRouter(tags=["datasets"], dependencies=[Depends(requires("train"))])


@router.get(
    "/v1/datasets/{dataset_id}/images",
    summary="A dataset's images, by split, label and checksum",
    responses={409: {"description": "The dataset is still being checked, was refused, or has no labels."}},
)
async def images(
    request: Request,
    dataset_id: str,
    label: Annotated[str | None, Query(description="Those with this label.")] = None,
    split: Annotated[SplitName | None, Query(description="Those of this split.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Listing[DatasetImageOut]:
    prefix = await asyncio.to_thread(_prefix, parts_of(request), dataset_id)
    listed = parts_of(request).dataset_images
    page: Page[Sample] = await asyncio.to_thread(listed.page, prefix, limit, cursor, label=label, split=split)
    return Listing(
        items=[
            DatasetImageOut(
                name=sample.name,
                sha256=sample.sha256,
                label=sample.label,
                split=sample.split,
                width=sample.width,
                height=sample.height,
                thumbnail=f"/v1/datasets/{dataset_id}/thumbnails/{sample.sha256}",
            )
            for sample in page.items
        ],
        next_cursor=page.next_cursor,
    )


def _prefix(parts: Parts, dataset_id: str) -> str:
    """Raises Problem where the dataset has no list, and NotFound."""
    dataset = parts.datasets.get(dataset_id)
    if dataset.state == DatasetState.CHECKING:
        detail = f"Dataset {dataset_id} is still being checked; its images can be listed when that job has ended."
        raise Problem(409, "not_checked_yet", detail, {"Retry-After": "1"})
    if dataset.state == DatasetState.REFUSED:
        detail = f"Dataset {dataset_id} was refused, so that nothing of it is kept; its report says why."
        raise Problem(409, "dataset_refused", detail)
    if not dataset.labels:
        detail = f"Dataset {dataset_id} was sent with labels=none; only images with labels can be listed."
        raise Problem(409, "dataset_unlabelled", detail)
    return dataset.prefix
