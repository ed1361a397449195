"""`/v1/webhooks`: addresses that are told when jobs end, and what they were told."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from service.auth import requires
from service.checks import wrong_field
from service.parts import parts_of
from service.schemas.listing import Listing
from service.schemas.patch import merge_patch
from service.schemas.webhooks import (
    DeliveryOut,
    WebhookMade,
    WebhookOut,
    WebhookPatch,
    WebhookRequest,
    WebhookTested,
)
from service.webhooks.address import ReceiverRefused
from service.webhooks.sender import signed
from storage.ids import new_id

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], dependencies=[Depends(requires("admin"))])
Limit = Annotated[int, Query(ge=1, le=200)]


@router.post("", summary="Have an address told when jobs end", status_code=201, response_model=WebhookMade)
async def create(request: Request, body: WebhookRequest) -> JSONResponse:
    """Its `secret` is shown here and never again: with it the receiver verifies that a message is this Fovea's, by
    Standard Webhooks."""
    parts = parts_of(request)
    url = str(body.url)
    try:
        await parts.webhook_sender.client.guard.check(url, parts.settings.webhook_timeout_s)
    except ReceiverRefused as refused:
        raise wrong_field("url", str(refused)) from refused
    made, secret = await asyncio.to_thread(
        parts.webhooks.create, url, events=body.events, kinds=body.kinds, description=body.description
    )
    out = WebhookMade(**WebhookOut.model_validate(made).model_dump(), secret=secret)
    return JSONResponse(out.model_dump(mode="json"), 201, headers={"Location": f"/v1/webhooks/{made.id}"})


@router.get("", summary="Webhooks, newest first")
async def list_webhooks(request: Request, limit: Limit = 50, cursor: str | None = None) -> Listing[WebhookOut]:
    page = await asyncio.to_thread(parts_of(request).webhooks.list, limit, cursor)
    return Listing[WebhookOut].model_validate(page)


@router.get("/{webhook_id}", summary="One webhook")
async def get(request: Request, webhook_id: str) -> WebhookOut:
    return WebhookOut.model_validate(await asyncio.to_thread(parts_of(request).webhooks.get, webhook_id))


@router.patch(
    "/{webhook_id}",
    summary="Change what a webhook is told, or enable it again",
    openapi_extra=merge_patch(WebhookPatch),
)
async def change(request: Request, webhook_id: str, body: WebhookPatch) -> WebhookOut:
    """A JSON merge patch (RFC 7396): what is left out stays, null is as when it was made, a list replaces the list
    before. Another address is another webhook, with a secret of its own."""
    changes = {field: getattr(body, field) for field in body.model_fields_set}
    if "enabled" in changes and changes["enabled"] is None:
        changes["enabled"] = True
    return WebhookOut.model_validate(
        await asyncio.to_thread(parts_of(request).webhooks.change, webhook_id, **changes)
    )


@router.delete("/{webhook_id}", summary="Delete a webhook with what waits for it", status_code=204)
async def delete(request: Request, webhook_id: str) -> Response:
    await asyncio.to_thread(parts_of(request).webhooks.delete, webhook_id)
    return Response(status_code=204)


@router.post("/{webhook_id}/test", summary="Send a message now, and see what comes of it")
async def test(request: Request, webhook_id: str) -> WebhookTested:
    """A message of the type `webhook.test`, signed as every other; once, also where the webhook is disabled."""
    parts = parts_of(request)
    webhook = await asyncio.to_thread(parts.webhooks.get, webhook_id)
    secret = await asyncio.to_thread(parts.webhooks.secret, webhook_id)
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    payload = {"type": "webhook.test", "timestamp": at, "data": {"webhook": webhook.id}}
    body = json.dumps(payload, separators=(",", ":")).encode()
    began = time.monotonic()
    answer = await parts.webhook_sender.client.post(webhook.url, body, signed(new_id("msg"), secret, body))
    return WebhookTested(
        delivered=answer.is_taken,
        status=answer.status,
        detail=answer.detail,
        seconds=round(time.monotonic() - began, 3),
    )


@router.get("/{webhook_id}/deliveries", summary="What a webhook was told, newest first")
async def deliveries(
    request: Request, webhook_id: str, limit: Limit = 50, cursor: str | None = None
) -> Listing[DeliveryOut]:
    page = await asyncio.to_thread(parts_of(request).webhooks.deliveries, webhook_id, limit, cursor)
    return Listing[DeliveryOut].model_validate(page)
