"""Around every request: its id, its log line, its metrics, and the headers that no answer goes without.

Plain ASGI, for it runs on the hot path.
"""

import re
import time
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.browsers import protected
from service.errors import ANSWER_HEADERS, CODE, METHODS, body_too_large, problem_of, problem_response
from service.metrics import GatewayMetrics
from workers.traces import Tracer

log = structlog.get_logger()
SAFE_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
BARE_413 = b"Content Too Large"
QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})


class RequestContext:
    """Gives each request an id (the client's `X-Request-ID` where it is sane), measures it and logs it."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics, tracer: Tracer | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _sent_id(scope) or uuid4().hex
        scope["fovea.request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = scope.get(ANSWER_HEADERS, ())
                message["headers"] = protected(
                    [*message["headers"], (b"x-request-id", request_id.encode()), *more]
                )
            await send(message)

        async def send_problem(message: Message) -> None:
            """The framework answers a body above its limit by itself, in plain text; give that our form."""
            if status == 413 and message["type"] == "http.response.body" and message.get("body") == BARE_413:
                return
            if message["type"] == "http.response.start" and _is_bare_413(message):
                problem = body_too_large(scope)
                scope[CODE] = problem.code
                await problem_response(problem, scope)(scope, receive, send_with_id)
                return
            await send_with_id(message)

        names = {"request_id": request_id}
        if self.tracer and (traceparent := self.tracer.current()):
            names["trace_id"] = traceparent.split("-")[1]
        with structlog.contextvars.bound_contextvars(**names):
            try:
                await self.app(scope, receive, send_problem)
            except Exception as error:
                # The framework logs it outside of here, where an answer would get neither id nor headers.
                problem = problem_of(error)
                scope[CODE] = problem.code
                if not status:
                    await problem_response(problem, scope)(scope, receive, send_with_id)
                raise
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's pattern, not the path: a client must not be able to make new time series.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        self.metrics.requests.labels(route, method, status).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        if CODE in scope:
            self.metrics.failures.labels(scope[CODE]).inc()
        # Status 0: the client left before its answer.
        level = log.debug if scope["path"] in QUIET_PATHS or 0 < status < 400 else log.info
        level("request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1e3, 1))


def _is_bare_413(message: Message) -> bool:
    content_type: bytes = dict(message["headers"]).get(b"content-type", b"")
    status: int = message["status"]
    return status == 413 and content_type.startswith(b"text/plain")


def _sent_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            return text if SAFE_ID.fullmatch(text) else None
    return None
