"""A job's Server-Sent Events, taken as hints of when to look at the job itself. Knows nothing of their content."""

import time
from collections.abc import Iterator

import httpx

# Progress may come faster than anyone reads.
_QUIET_S = 0.2


class EventStream:
    """One job's events over as many connections as it takes."""

    def __init__(self, http: httpx.Client, path: str) -> None:
        self._http = http
        self._path = path
        self._last_id: str | None = None

    def wake_ups(self) -> Iterator[None]:
        """Once at first, then at each event, for mere progress every `_QUIET_S`; ends when the stream does.

        A stream asked for again goes on after the last event that was seen.
        """
        yield
        looked_at = time.monotonic()
        kind = ""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": self._last_id} if self._last_id else {})}
        timeout = httpx.Timeout(30.0, connect=5.0)
        try:
            with self._http.stream("GET", self._path, headers=headers, timeout=timeout) as answer:
                for line in answer.iter_lines() if answer.status_code == 200 else ():
                    name, _, value = line.partition(":")
                    if name == "id":
                        self._last_id = value.strip()
                    elif name == "event":
                        kind = value.strip()
                    elif not line and (kind != "progress" or time.monotonic() - looked_at > _QUIET_S):
                        yield
                        looked_at = time.monotonic()
        except httpx.TransportError:
            return
