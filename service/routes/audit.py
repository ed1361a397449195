"""`GET /v1/audit`: who did what to which model, dataset, key and job."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from service.auth import requires
from service.parts import parts_of
from service.schemas.listing import Listing

router = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[Depends(requires("admin"))])

MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d.*", re.ASCII)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
Text = Annotated[str | None, Query(max_length=200)]


def _check_moment(given: Any) -> Any:
    """Seconds since 1970, which pydantic takes too, are no time of RFC 3339."""
    if isinstance(given, str) and not MOMENT.fullmatch(given):
        raise ValueError("a time with its zone, such as 2026-11-01T00:00:00Z")
    return given


class AuditOut(BaseModel):
    """One deed."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    at: datetime
    actor: str = Field(description="A key's prefix, or `loopback`, `cli`, `worker`, `system`.")
    actor_name: str | None = Field(description="The key's name; at the command line the user's.")
    job_id: str | None = Field(description="The job in which a worker did it.")
    action: str = Field(description="Such as `alias.set`.")
    kind: str = Field(description="What it was done to: `model`, `dataset`, `key`, `job` or `backup`.")
    subject: str = Field(description="That one's name or id.")
    detail: dict[str, Any]
    request_id: str | None
    client: str | None = Field(description="The address that the request came from.")


@router.get("", summary="Who did what, newest first")
async def list_audit(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
    actor: Text = None,
    action: Text = None,
    subject: Text = None,
    since: Annotated[AwareDatetime | None, BeforeValidator(_check_moment), Query(ge=EARLIEST, le=LATEST)] = None,
) -> Listing[AuditOut]:
    """`actor` is a key's prefix or name, or one of the words above; `action` one of them (`alias.set`) or all of a
    kind (`alias`)."""
    page = await asyncio.to_thread(
        parts_of(request).audit.list, limit, cursor, actor=actor, action=action, subject=subject, since=since
    )
    return Listing[AuditOut].model_validate(page)
