"""`/v1/jobs`: state, progress, events and cancelling of durable work."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from service.auth import key_of, requires
from service.errors import request_id_of
from service.event_stream import PING, PING_S, RESPONSES, encoded, event_stream
from service.parts import Parts, parts_of, traceparent_of
from service.schemas.jobs import CancelRequest, JobAccepted, JobOut
from service.schemas.listing import Listing
from storage.ids import new_id
from storage.job import Idempotency, Job, JobState
from workers.contract.queues import JobKind

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(requires("classify"))])

POLL_S = 0.25
ATTEMPTS = 3


@router.get("", summary="Jobs, newest first")
async def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
    state: JobState | None = None,
    kind: str | None = None,
) -> Listing[JobOut]:
    page = await asyncio.to_thread(parts_of(request).ledger.list, limit, cursor, state=state, kind=kind)
    return Listing[JobOut].model_validate(page)


@router.get("/{job_id}", summary="One job: state, progress, result or error")
async def get_job(request: Request, job_id: str) -> JobOut:
    return job_out(await asyncio.to_thread(parts_of(request).ledger.get, job_id))


@router.post(
    "/{job_id}/cancel",
    summary="Ask a job to stop",
    status_code=202,
    dependencies=[Depends(requires("train"))],
)
async def cancel_job(request: Request, job_id: str, body: CancelRequest | None = None) -> JobOut:
    """A queued job ends at once; a running one within two seconds of its next step.

    Repeating it is harmless: without `on_cancel` what an earlier call said stands.
    """
    on_cancel = body.on_cancel if body else None
    return job_out(await asyncio.to_thread(parts_of(request).ledger.request_cancel, job_id, on_cancel))


async def existing_job(request: Request, job_id: str) -> Job:
    """Looked up before a stream begins: afterwards it is too late for a 404."""
    return await asyncio.to_thread(parts_of(request).ledger.get, job_id)


async def stream_slot(request: Request) -> AsyncIterator[None]:
    """Held until the stream's end; refused before it begins."""
    with parts_of(request).event_streams.one(key_of(request)):
        yield


@router.get(
    "/{job_id}/events",
    summary="State and progress as Server-Sent Events",
    response_class=StreamingResponse,
    responses=RESPONSES,
)
async def events(
    request: Request,
    job: Annotated[Job, Depends(existing_job)],
    _slot: Annotated[None, Depends(stream_slot)],
    last_event_id: Annotated[int | None, Header(ge=0, description="Resume after this event.")] = None,
) -> StreamingResponse:
    """Every event since `Last-Event-ID`, then new ones as they come; ends with the job's last event."""
    return event_stream(_events(parts_of(request), job.id, last_event_id or 0))


async def _events(parts: Parts, job_id: str, seen: int) -> AsyncIterator[bytes]:
    began = last = time.monotonic()
    # Proxies and shutdowns dislike endless streams.
    while (now := time.monotonic()) < began + parts.settings.event_stream_s:
        # The state is read first: events that follow a terminal state cannot be missed then.
        job = await asyncio.to_thread(parts.ledger.get, job_id)
        fresh = await asyncio.to_thread(parts.ledger.events, job_id, seen)
        for event in fresh:
            seen, last = event.id, now
            yield encoded(event)
        if job.state.is_terminal and not fresh:
            return
        if parts.draining.has_begun:
            # The client comes back with the id of the last event that it has seen.
            return
        if now > last + PING_S:
            last = now
            yield PING
        await parts.draining.sleep(0 if fresh else POLL_S)


async def start_job(
    request: Request,
    kind: JobKind,
    asked: dict[str, Any],
    key: Idempotency | None,
    *,
    max_attempts: int = ATTEMPTS,
) -> Job:
    """A new job, sent to its queue; or the one that an earlier request with the key made and sent.

    Raises what `JobLedger.create` raises.
    """
    job_id = new_id("job")
    job = await create_job(request, kind, asked, key, job_id, max_attempts=max_attempts)
    if job.id == job_id:
        await parts_of(request).dispatcher.dispatch(job)
    return job


async def create_job(
    request: Request,
    kind: JobKind,
    asked: dict[str, Any],
    key: Idempotency | None,
    job_id: str,
    *,
    max_attempts: int = ATTEMPTS,
) -> Job:
    """As `start_job`, but not yet sent: for a caller that names files by it. It is new where it has this id."""
    return await asyncio.to_thread(
        parts_of(request).ledger.create,
        kind.value,
        asked,
        idempotency=key,
        request_id=request_id_of(request),
        traceparent=traceparent_of(request),
        max_attempts=max_attempts,
        job_id=job_id,
        owner=parts_of(request).limiter.owner(key_of(request)),
    )


def accepted(job: Job, headers: Mapping[str, str] | None = None, *, warnings: Sequence[str] = ()) -> JSONResponse:
    """202 with the job and where to look for it."""
    body = JobAccepted(**dict(job_out(job)), warnings=list(warnings))
    return JSONResponse(
        body.model_dump(mode="json"),
        202,
        headers={"Location": f"/v1/jobs/{job.id}", "Retry-After": "1", **(headers or {})},
    )


def job_out(job: Job) -> JobOut:
    return JobOut.model_validate(job)
