"""Server-Sent Events as an answer that its reader may leave at any moment.

FastAPI's own, for endpoints that yield, sends from tasks: where a reader leaves while one of them sends, it closes
the way between the two first, and the request fails as by an error of ours.
"""

from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from storage.job import Event

MEDIA_TYPE = "text/event-stream"
# In which a browser comes back after a stream has ended.
RETRY_MS = 1000
# So that no proxy holds events back.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
# For proxies that close what is silent.
PING = b": ping\n\n"
PING_S = 15.0
EVENT_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer", "minimum": 0},
    },
    "required": ["id", "event", "data", "retry"],
}
RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {"itemSchema": EVENT_SCHEMA}}}}


def event_stream(chunks: AsyncIterator[bytes]) -> StreamingResponse:
    """What `chunks` brings, until it ends or the reader leaves."""
    return StreamingResponse(chunks, media_type=MEDIA_TYPE, headers=HEADERS)


def encoded(event: Event) -> bytes:
    data = orjson.dumps({"at": event.at.isoformat(), **event.data}).decode()
    return format_sse_event(data_str=data, event=event.kind, id=str(event.id), retry=RETRY_MS)
