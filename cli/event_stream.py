"""A job's Server-Sent Events, taken as hints of when to look at the job itself. Knows nothing of their content."""

import time
from collections.abc import Iterator

import httpx
from httpx_sse import connect_sse

# Progress may come faster than anyone reads.
_QUIET_S = 0.2


class EventStream:
    """One job's events over as many connections as it takes."""

    def __init__(self, http: httpx.Client, path: str) -> None:
        self._http = http
        self._path = path
        self._last_id = ""

    def wake_ups(self) -> Iterator[None]:
        """Once at first, then at each event, for mere progress every `_QUIET_S`; ends when the stream does.

        A stream asked for again goes on after the last event that was seen. What is no stream has no events.
        """
        yield
        looked_at = time.monotonic()
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        timeout = httpx.Timeout(30.0, connect=5.0)
        try:
            with connect_sse(self._http, "GET", self._path, headers=headers, timeout=timeout) as stream:
                for event in stream.iter_sse():
                    self._last_id = event.id or self._last_id
                    if event.event != "progress" or time.monotonic() - looked_at > _QUIET_S:
                        yield
                        looked_at = time.monotonic()
        except httpx.TransportError:  # also what httpx-sse raises for an answer that is no stream
            return
