"""Traces by OpenTelemetry, sent as OTLP over HTTP: off, and not even loaded, unless `FOVEA_TRACES_URL` is set.

A span's place in its trace travels as W3C `traceparent` text: in queue messages, and in the rows of jobs. Only
spans that are sampled have one, so that what is not sampled costs nothing further down the way.
"""

import threading
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field

from storage.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link
    from opentelemetry.trace import Span as OpenSpan

    from storage.job import Job

Kind = Literal["internal", "producer", "consumer"]
Attributes = Mapping[str, str | int]
NONE: Attributes = MappingProxyType({})
EXPORT_TIMEOUT_S = 5.0
CLOSING_S = 3.0
PROTOCOL_PATH = "/v1/traces"


class TraceSettings(Settings):
    """Headers, certificates and resource attributes are read from OpenTelemetry's own `OTEL_...` variables."""

    traces_url: str = Field(
        "", repr=False, description="OTLP/HTTP collector of traces, `http://host:4318`; off when empty."
    )
    traces_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of the requests traced that bring no `traceparent` of their own."
    )


class TracingUnavailable(Exception):
    """Traces are asked for and cannot be made."""


def open_tracer(role: str, settings: TraceSettings) -> "Tracer | None":
    """None when traces are not asked for. Raises TracingUnavailable."""
    if not settings.traces_url:
        return None
    endpoint = _endpoint(settings.traces_url)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise TracingUnavailable(
            f"FOVEA_TRACES_URL is set, but OpenTelemetry is not installed here ({error}). Install Fovea with the "
            "extra `tracing`, or unset FOVEA_TRACES_URL."
        ) from error
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.traces_ratio),
        resource=Resource.create({"service.name": f"fovea-{role}", "service.version": version("fovea")}),
        shutdown_on_exit=False,
    )
    # Sends in a thread of its own; what a collector does not take in time is dropped.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=EXPORT_TIMEOUT_S)))
    return Tracer(provider)


class Tracer:
    """Makes spans and sends them in the background; safe to use from any thread. Times are Unix seconds."""

    def __init__(self, provider: "TracerProvider") -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("fovea")

    def current(self) -> str | None:
        """The `traceparent` of the span that the calling code runs in."""
        from opentelemetry.trace import get_current_span

        return _traceparent(get_current_span())

    def start(
        self,
        name: str,
        *,
        parent: str,
        links: Iterable[str] = (),
        at: float | None = None,
        kind: Kind = "internal",
        attributes: Attributes = NONE,
    ) -> "Span":
        """A span under `parent`, which did work for the spans `links` too."""
        from opentelemetry.trace import SpanKind

        span = self._tracer.start_span(
            name,
            context=_context(parent),
            kind=SpanKind[kind.upper()],
            links=[_link(link) for link in links],
            start_time=_nanoseconds(at),
            attributes=_named(attributes),
        )
        return Span(self, span)

    def record(
        self,
        name: str,
        start: float,
        end: float,
        *,
        parent: str,
        links: Iterable[str] = (),
        attributes: Attributes = NONE,
    ) -> None:
        """A span that is over already."""
        self.start(name, parent=parent, links=links, at=start, attributes=attributes).end(at=end)

    def start_attempt(self, job: "Job", *, at: float | None = None) -> "Span | None":
        """The span of a job's attempt, and that of the wait before the first; None when the job is not traced."""
        if job.traceparent is None:
            return None
        attributes: Attributes = {"job": job.id, "attempt": job.attempt, "worker": job.worker or ""}
        span = self.start(job.kind, parent=job.traceparent, at=at, kind="consumer", attributes=attributes)
        if job.attempt == 1 and job.started_at:
            queued, taken = job.created_at.timestamp(), job.started_at.timestamp()
            self.record("queue", queued, taken, parent=job.traceparent)
        return span

    def close(self) -> None:
        """Send what is left, for a moment: a process must not live on because a collector is away."""
        closing = threading.Thread(target=self.provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSING_S)


class Span:
    """A span under way."""

    def __init__(self, tracer: Tracer, span: "OpenSpan") -> None:
        self._tracer, self._span = tracer, span
        # Below a sampled parent every span is sampled.
        self.traceparent = _traceparent(span) or ""

    def child(self, name: str, start: float, end: float, attributes: Attributes = NONE) -> None:
        """A part of it that is over already."""
        self._tracer.record(name, start, end, parent=self.traceparent, attributes=attributes)

    def end(self, *, at: float | None = None, error: str | None = None) -> None:
        """`error` is a stable code."""
        from opentelemetry.trace import StatusCode

        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end(_nanoseconds(at))


def _named(attributes: Attributes) -> dict[str, str | int]:
    return {f"fovea.{key}": value for key, value in attributes.items()}


def _endpoint(url: str) -> str:
    """The collector's address as OpenTelemetry's exporter takes it; the path may be left out."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TracingUnavailable(
            f"FOVEA_TRACES_URL is {url!r}; expected the OTLP/HTTP address of a collector, like http://host:4318"
        )
    return url if parts.path.strip("/") else url.rstrip("/") + PROTOCOL_PATH


def _traceparent(span: "OpenSpan") -> str | None:
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if not span.get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent")


def _context(traceparent: str) -> "Context":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _link(traceparent: str) -> "Link":
    from opentelemetry.trace import Link, get_current_span

    return Link(get_current_span(_context(traceparent)).get_span_context())


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e9)
