"""Jobs: what is answered of them, and what cancelling takes."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class JobOut(BaseModel):
    """`request` and `result` are those of the job's kind; see `docs/api.md`."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    request: dict[str, Any]
    progress: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    attempt: int
    max_attempts: int
    cancel_requested: bool
    on_cancel: str | None = Field(
        description="What a cancellation leaves: `discard`, or `keep_best` as its result."
    )
    worker: str | None
    request_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobAccepted(JobOut):
    """A job that was just made."""

    warnings: list[str] = Field(description="What will be done, but may not be what was meant.")


class CancelRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    on_cancel: Literal["discard", "keep_best"] | None = Field(
        None,
        description="What becomes of what there is; null: what an earlier cancellation said, else `discard`.",
    )
