"""Datasets: what is answered of them, and what an upload is."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.content import BINARY
from service.schemas.jobs import JobOut


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    state: Literal["checking", "ready", "refused"]
    labels: list[str]
    content_hash: str | None
    size_bytes: int = Field(description="What its files take; of a revision those that it does not share.")
    created_at: datetime
    parent: str | None = Field(description="The dataset that it is a revision of, which may be deleted.")
    revision: int = Field(description="Its number in the line: 1 of what was uploaded.")


class DatasetDetail(DatasetOut):
    counts: dict[str, Any] = Field(description="Images by label and split.")


class DatasetAccepted(DatasetOut):
    job: JobOut = Field(description="The job that checks it.")


UPLOAD_RESPONSES: dict[int | str, dict[str, Any]] = {
    415: {"description": "The bytes are no archive that is taken."},
    507: {"description": "The upload would fill the disk."},
}
ARCHIVE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": BINARY, "application/x-tar": BINARY, "application/gzip": BINARY},
    }
}
