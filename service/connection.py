"""A client's connection before any route sees it: how much may come, and how slowly.

httptools, which uvicorn parses with, keeps a header for as long as it grows, and uvicorn has a timeout for idle
connections only. The rest is here.
"""

import asyncio
from enum import Enum, auto
from typing import Any
from uuid import uuid4

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.browsers import protected
from service.connections import Connections
from service.errors import Problem, problem_response

# Of a request line with its headers, of the trailers of a chunked body, of what stands between two chunks.
HEAD_BYTES = 64 * 2**10
HEAD_FIELDS = 128
# Requests that a client may send before it has the first one's answer; each costs memory as soon as it is read.
PIPELINED = 16
# What a refused client still sends is read and dropped for so long: a reset would take the answer from it.
LINGER_S = 2.0


class Reading(Enum):
    """Where in a request the parser stands."""

    HEAD = auto()
    BODY = auto()
    NOTHING = auto()


class BoundedConnection(HttpToolsProtocol):
    """One connection within the limits; a client beyond them gets a problem where an answer is still possible."""

    def __init__(
        self,
        table: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._table = table
        self._limits = table.limits
        self._address = ""
        self._reading = Reading.HEAD
        # When what is being read began, or its last window of `body_s`.
        self._since = self.loop.time()
        self._body_bytes = 0
        # Bytes that neither belonged to a body nor ended a head: what the parser may be keeping.
        self._kept = 0
        self._fields = self._head_bytes = 0
        self._refusal: Problem | None = None
        self._refused = False
        self._served: RequestResponseCycle | None = None
        self._unsent, self._unsent_since = 0, self._since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if problem := self._table.enter(self, self._address):
            self._refuse(problem)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.leave(self, self._address)
        self._part()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._kept += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # There are no WebSockets here: it is answered like any other request.
            pass
        except httptools.HttpParserError:
            # It found no HTTP, or a callback below raised.
            self._refuse(self._refusal or _NO_HTTP)
        else:
            if self._kept > HEAD_BYTES:
                self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            detail = f"More than {PIPELINED} requests were sent ahead; wait for their answers first."
            self._give_up(Problem(429, "too_many_requests", detail, {"Retry-After": "1"}))
        self._reading, self._since = Reading.HEAD, self.loop.time()
        self._fields = self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > HEAD_FIELDS:
            detail = f"The request has more than the {HEAD_FIELDS} header fields that are taken."
            self._give_up(Problem(431, "header_too_large", detail))
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._reading, self._since = Reading.BODY, self.loop.time()
        self._kept = self._body_bytes = 0
        self._table.unoccupied.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._kept = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading, self._since = Reading.NOTHING, self.loop.time()
        self._kept = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()
        if not self._answering and not self._refused:
            self._table.unoccupied[self] = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def look(self, now: float) -> None:
        """End what has taken too long."""
        self._look_at_answer(now)
        if self.transport.is_closing():
            return
        waited = now - self._since
        if self._refused:
            if waited > LINGER_S:
                self.transport.abort()
        elif self._reading is Reading.BODY:
            self._look_at_body(now, waited)
        elif not self._answering:
            if self._reading is Reading.HEAD and waited > self._limits.header_s:
                if self._kept:
                    detail = f"The header was not complete after {self._limits.header_s:g} s."
                    self._refuse(Problem(408, "request_timeout", detail))
                else:
                    self.leave()
            elif self._reading is Reading.NOTHING and waited > self._limits.idle_s:
                self.leave()

    def leave(self) -> None:
        """Close without a word: nothing was asked."""
        self._table.unoccupied.pop(self, None)
        self.transport.close()

    @property
    def _answering(self) -> bool:
        """Whether a request is not answered yet."""
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _look_at_body(self, now: float, waited: float) -> None:
        if not self._answering:
            # Answered before the body was whole: what still comes is dropped, but not for ever.
            if waited > self._limits.body_s:
                self.transport.close()
        elif self.flow.read_paused or self.cycle.waiting_for_100_continue:
            # It is we who keep the client waiting.
            self._since, self._body_bytes = now, 0
        elif waited > self._limits.body_s:
            if self._body_bytes < self._limits.body_bytes_s * waited:
                least, got = self._limits.body_bytes_s, self._body_bytes
                detail = f"{got} bytes of the body came in {waited:.0f} s; expected {least} a second or more."
                self._refuse(Problem(408, "request_timeout", detail))
            else:
                self._since, self._body_bytes = now, 0

    def _look_at_answer(self, now: float) -> None:
        """A client that takes nothing of its answer keeps the answer's memory and files."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent or not unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > self._limits.body_s:
            self._table.count("answer_not_taken")
            self.transport.abort()

    def _part(self) -> None:
        """The application sees its client gone; what it still sends goes nowhere.

        With requests sent ahead, the one that is served is not the latest, and uvicorn tells only that.
        """
        for cycle in (self.cycle, self._served):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.waiting_for_100_continue = False
                cycle.message_event.set()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._give_up(_HEAD_TOO_LARGE)

    def _give_up(self, problem: Problem) -> None:
        """Stop the parser from within one of its callbacks."""
        self._refusal = problem
        raise ValueError(problem.code)

    def _refuse(self, problem: Problem) -> None:
        """Answer with the problem, where an answer is due, and read no request of this connection any more."""
        self._table.count(problem.code)
        head_only = self._reading is not Reading.BODY
        under_way = self._answering
        self._refused, self._since = True, self.loop.time()
        may_linger = self._table.refuse(self, self._address)
        self._unset_keepalive_if_required()
        self._part()
        if not may_linger or (under_way and (head_only or self.pipeline or self.cycle.response_started)):
            # Where another request's answer is due or has begun, this one would be taken for a part of it.
            self.transport.close()
            return
        self.transport.write(_bare_answer(problem))
        self.flow.resume_reading()
        self.transport.write_eof()


_NO_HTTP = Problem(400, "bad_request", "What was sent is no HTTP request; expected HTTP/1.1.")
_HEAD_TOO_LARGE = Problem(
    431, "header_too_large", f"The request line and headers have more than the {HEAD_BYTES} bytes that are taken."
)


def _bare_answer(problem: Problem) -> bytes:
    """The problem as it goes over the wire, for there is no application around it."""
    request_id = uuid4().hex
    response = problem_response(problem, {"fovea.request_id": request_id})
    named = [*response.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
    fields = protected(named)
    head = b"".join(b"%b: %b\r\n" % pair for pair in fields)
    return b"%b%b\r\n%b" % (STATUS_LINE[problem.status], head, bytes(response.body))
