"""The gateway assembled: HTTP in, HTTP out. Knows no torch and no onnxruntime."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig

from service.browsers import BrowserGuard, KnownHosts, install_cors
from service.description import DescribedApp
from service.documentation import install_documentation
from service.errors import install_error_handlers
from service.memory import keep_heap_trimmed
from service.middleware import QUIET_PATHS, RequestContext
from service.model_uploads import FORM_BYTES
from service.parts import Parts
from service.protocol import routes as protocol
from service.query import refuse_unknown_parameters
from service.revision_uploads import MOST_CHANGES_BYTES
from service.routes import (
    architectures,
    audit,
    classifications,
    classify,
    dataset_images,
    datasets,
    diagnoses,
    drift,
    embed,
    evaluations,
    explain,
    filters,
    finetunes,
    health,
    jobs,
    model_files,
    models,
    revisions,
    similar,
    variants,
    webhooks,
)
from workers.traces import Tracer

if TYPE_CHECKING:
    from service.protocol.rpc import RpcServer

# Of 1 MiB, a hundred thousand wrong fields cost a second of the event loop and 120 MB.
SMALL_BODY_BYTES = 64 * 2**10
DESCRIPTION = """\
Classifies images and learns new classes from yours.

A model reference is `name` (its `production` version, else its latest), `name@alias` or `name:3`.
Errors are `application/problem+json` with a stable `code` and the `request_id`.
"""


def create_app(parts: Parts) -> FastAPI:
    """The application over its parts; background work lives as long as the application's lifespan."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.workforce.refresh()
        rpc = await _started_rpc(parts)
        _start_background(parts)
        yield
        if rpc:
            await rpc.stop(parts.draining.grace_s)
        await parts.background.close()
        await parts.sketches.write()
        await parts.workforce.aclose()
        await parts.exchange.aclose()
        await parts.limiter.aclose()
        parts.exchange.close()
        parts.database.close()
        if parts.tracer:
            await asyncio.to_thread(parts.tracer.close)

    app = DescribedApp(
        dependencies=[Depends(refuse_unknown_parameters)],
        title="Fovea",
        version=version("fovea"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=_telemetry(parts.tracer),
    )
    app.needs_keys = parts.auth.required
    app.state.parts = parts
    app.include_router(datasets.router, max_body_size=parts.settings.max_upload_bytes)
    app.include_router(revisions.router, max_body_size=parts.settings.max_upload_bytes + MOST_CHANGES_BYTES)
    # Before the call of the same address that takes JSON.
    app.include_router(model_files.router, max_body_size=parts.settings.max_model_bytes + FORM_BYTES)
    for images in (classify.router, explain.router, embed.router, similar.router, protocol.inference):
        app.include_router(images, max_body_size=parts.settings.max_body_bytes)
    for small in (protocol.health, protocol.router):
        app.include_router(small, max_body_size=SMALL_BODY_BYTES)
    for routes in (
        models, variants, filters, drift, jobs, classifications, evaluations, diagnoses, finetunes, architectures,
        dataset_images, audit, webhooks, health,
    ):  # fmt: skip
        app.include_router(routes.router, max_body_size=SMALL_BODY_BYTES)
    install_documentation(app)
    install_error_handlers(app)
    # The last one is the outermost: what is refused is logged, measured and has its id, too.
    install_cors(app, parts.settings.origins)
    app.add_middleware(BrowserGuard, hosts=KnownHosts.of(parts.settings), origins=parts.settings.origins)
    app.add_middleware(RequestContext, metrics=parts.metrics, tracer=parts.tracer)
    return app


async def _started_rpc(parts: Parts) -> "RpcServer | None":
    """The gRPC server where there is to be one. Its libraries take 20 MB, which others do without."""
    if not parts.settings.grpc_port:
        return None
    from service.protocol.rpc import RpcServer

    rpc = RpcServer(parts)
    await rpc.start()
    parts.background.start("rpc.watch", rpc.watch())
    return rpc


def _start_background(parts: Parts) -> None:
    settings, start = parts.settings, parts.background.start
    for server, line in parts.exchange.lines.items():
        start(f"workforce.poll.{line.number}", parts.workforce.poll(server))
        start(f"exchange.listen.{line.number}", parts.exchange.listen(server))
    start("batcher.watch_workers", parts.batcher.watch_workers())
    start(
        "dispatcher.reconcile",
        parts.dispatcher.reconcile(
            interval_s=settings.reconcile_interval_s, requeue_after_s=settings.requeue_after_s
        ),
    )
    start("dispatcher.release", parts.dispatcher.release())
    start("webhooks.send", parts.webhook_sender.run())
    start("sketches.run", parts.sketches.run(settings.drift_write_s))
    start("cleanup.run", parts.cleanup.run(settings.cleanup_interval_s))
    start("auth.record_uses", parts.auth.record_uses())
    start("memory.keep_heap_trimmed", keep_heap_trimmed())


def _telemetry(tracer: Tracer | None) -> TelemetryConfig:
    """FastAPI makes each request's span itself, and takes up the trace of a client's `traceparent`."""
    return {
        "tracing": tracer is not None,
        "tracer_provider": tracer.provider if tracer else None,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
        "exclude": lambda scope: scope["path"] in QUIET_PATHS,
    }
