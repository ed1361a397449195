"""The gateway's process: `python -m service.main` reads the environment, builds the real parts and listens."""

import workers.lean  # noqa: F401 - first: what follows imports the libraries that it trims

# isort: split
import socket
import sys
from contextlib import suppress
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Any

import structlog
import uvicorn
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from uvicorn.config import STARTUP_FAILURE

from service.app import create_app
from service.auth import Authenticator
from service.batch_queue import BatchQueue
from service.batcher import Batcher
from service.cleanup import Cleanup
from service.connection import BoundedConnection
from service.connections import LINGERING, ConnectionLimits, Connections
from service.dataset_images import DatasetImages
from service.dispatch import JobDispatcher
from service.draining import DrainingServer, answered_when_cut_off
from service.drift import DriftWatch
from service.exchange import CeleryExchange
from service.intake import ImageLimits, Intake
from service.limits import KeyLimiter
from service.line import open_lines
from service.lookout import Lookout
from service.metrics import MOST_MODELS, GatewayMetrics
from service.parts import Parts
from service.protocol.statistics import Statistics
from service.settings import GatewaySettings
from service.sketches import ServedSketches
from service.slots import event_stream_slots, upload_slots
from service.stats import StatsCollector
from service.versions import VersionCache
from service.webhooks.address import AddressGuard
from service.webhooks.client import WebhookClient
from service.webhooks.sender import RetryPolicy, WebhookSender
from service.workforce import Workforce
from storage.audit import AuditLog
from storage.blobs import BlobStore
from storage.database import open_database
from storage.datasets import DatasetRegistry
from storage.errors import InvalidSettings, StorageError
from storage.job_ledger import JobLedger
from storage.keys import KeyRing
from storage.outbox import Outbox
from storage.registry import ModelRegistry
from storage.sketches import SketchBook
from storage.webhooks import WebhookRegistry
from system.descriptors import raise_descriptor_limit
from system.garbage import collect_new_garbage
from system.loopback import is_loopback
from workers.celery_app import make_celery
from workers.contract.queues import QUEUE_OF_TASK, TASK_OF_JOB, Queue
from workers.logs import configure_logging, refuse
from workers.redis_url import InvalidRedisUrl, connect_async, connect_for_heartbeats_async
from workers.traces import TracingUnavailable, open_tracer
from workers.transit import TransitServer, transit_servers

log = structlog.get_logger()
# Databases, Redis, files, and refused connections that linger.
OWN_DESCRIPTORS = LINGERING + 256


def main() -> int:
    try:
        settings = GatewaySettings()
    except InvalidSettings as error:
        return refuse("gateway", error)
    configure_logging("gateway", form=settings.log_format, level=settings.log_level)
    try:
        parts = build_parts(settings)
    except (TracingUnavailable, InvalidRedisUrl, StorageError) as error:
        log.error("gateway.refused", reason=str(error))
        return 2
    if settings.requires_key and not parts.auth.keys.any():
        log.error(
            "gateway.refused",
            reason=f"{settings.host} can be reached from other machines and there is no API key. "
            "Make one with `fovea keys create --scope admin`, or listen on 127.0.0.1.",
        )
        return 2
    try:
        sockets = given_sockets(settings)
    except OSError as error:
        log.error("gateway.refused", reason=f"FOVEA_LISTEN_FDS={settings.listen_fds}: {error}")
        return 2
    try:
        require_grpc_port(settings)
    except OSError as error:
        reason = f"FOVEA_GRPC_PORT={settings.grpc_port}: {error}; choose another, or 0 for no gRPC"
        log.error("gateway.refused", reason=reason)
        return 2
    return serve(parts, sockets)


def given_sockets(settings: GatewaySettings) -> list[socket.socket]:
    """The sockets in `listen_fds`.

    Raises OSError for what is no socket, and for one that strangers reach while no key is asked for.
    """
    sockets = [socket.socket(fileno=number) for number in settings.listening]
    addresses = [found.getsockname()[0] for found in sockets if found.family != socket.AF_UNIX]
    for address in addresses:
        if not settings.requires_key and not is_loopback(address):
            raise OSError(f"it listens on {address}, where keys are required; name that in FOVEA_HOST")
    return sockets


def require_grpc_port(settings: GatewaySettings) -> None:
    """Raises OSError where gRPC cannot listen there; with shared sockets another gateway may do so, too."""
    if not settings.grpc_port or settings.listening:
        return
    found = socket.getaddrinfo(settings.host, settings.grpc_port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)


def serve(parts: Parts, sockets: list[socket.socket] | None = None) -> int:
    """Listen until a signal, or until background work fails; the process's exit code.

    On `sockets` where there are any, which whoever started this process holds too.
    """
    settings = parts.settings
    server = DrainingServer(
        uvicorn.Config(
            answered_when_cut_off(create_app(parts)),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            **connection_options(parts),
        ),
        parts.draining,
        drain_s=settings.drain_s,
        grace_s=settings.classify_timeout_s,
        shared=bool(sockets),
    )

    parts.background.stop = server.stop_quickly
    collect_new_garbage()
    with suppress(KeyboardInterrupt):
        server.run(sockets or None)
    if parts.background.failure:
        log.critical("gateway.failed", reason=parts.background.failure)
        return 1
    return 0 if server.started else STARTUP_FAILURE


def connection_options(parts: Parts) -> dict[str, Any]:
    """What uvicorn is told about connections; files and sockets of our own need descriptors too."""
    settings = parts.settings
    descriptors = raise_descriptor_limit(settings.max_connections + OWN_DESCRIPTORS)
    if settings.max_connections + OWN_DESCRIPTORS > descriptors:
        log.warning(
            "gateway.few_descriptors", limit=descriptors, wanted=settings.max_connections + OWN_DESCRIPTORS
        )
    limits = ConnectionLimits(
        connections=max(1, min(settings.max_connections, descriptors - OWN_DESCRIPTORS)),
        per_address=settings.max_connections_per_address,
        header_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
        body_bytes_s=settings.body_min_bytes_s,
        idle_s=settings.keep_alive_s,
    )
    connections = Connections(limits, on_refused=lambda code: parts.metrics.failures.labels(code).inc())
    # Idle connections are closed by ours, so uvicorn's own timer only has to come later.
    return {
        "http": partial(BoundedConnection, connections),
        "ws": "none",
        "timeout_keep_alive": ceil(settings.keep_alive_s) + 2,
    }


def build_parts(settings: GatewaySettings) -> Parts:
    """The real parts; connects to nothing before the application starts."""
    database = open_database(settings.database)
    registry = ModelRegistry(database)
    ledger = JobLedger(database)
    datasets = DatasetRegistry(database)
    audit = AuditLog(database)
    metrics = GatewayMetrics()
    statistics = Statistics()
    book = SketchBook(database)
    sketches = ServedSketches(book)
    drift = DriftWatch(book, registry, is_on=settings.drift, most_models=MOST_MODELS)
    tracer = open_tracer("gateway", settings)
    celery = make_celery(settings.broker_url, role="gateway", events=settings.task_events)
    servers = transit_servers(settings.transit)
    exchange = CeleryExchange(
        BatchQueue(celery, _broker(settings)),
        open_lines(servers),
        # The workforce is not there yet.
        usable=lambda: workforce.usable,
        ttl_s=settings.classify_timeout_s * 2,
        on_malformed=partial(metrics.observe_malformed, "reply"),
        on_sent=metrics.observe_sent,
    )
    workforce = Workforce(
        {server.name: _lookout(server, exchange, metrics) for server in servers},
        settings.heartbeat_poll_s,
        on_start=metrics.observe_start,
    )
    batcher = Batcher(
        exchange,
        slots=lambda: workforce.slots(Queue.INTERACTIVE),
        is_finished=lambda: workforce.is_finished(Queue.INTERACTIVE),
        metrics=metrics,
        max_batch=settings.max_batch,
        max_batch_bytes=settings.max_batch_bytes,
        max_waiting=settings.max_waiting,
        max_waiting_bytes=settings.max_waiting_bytes * len(servers),
        tracer=tracer,
        servers=len(servers),
        on_batch=statistics.record_batch,
        on_sketch=sketches.record if settings.drift else None,
    )
    blobs = BlobStore(settings.blobs)
    outbox = Outbox(database)
    return Parts(
        settings=settings,
        database=database,
        registry=registry,
        ledger=ledger,
        datasets=datasets,
        dataset_images=DatasetImages(blobs),
        blobs=blobs,
        auth=Authenticator(KeyRing(database), required=settings.requires_key, metrics_open=settings.metrics_open),
        limiter=KeyLimiter(
            {server.name: _limits_redis(server) for server in servers},
            settings.key_limits,
            hold_s=settings.classify_timeout_s + 5,
            on_uncounted=metrics.uncounted.inc,
        ),
        webhooks=WebhookRegistry(database),
        webhook_sender=WebhookSender(
            outbox,
            WebhookClient(AddressGuard(settings.webhook_allowed), settings.webhook_timeout_s),
            RetryPolicy(settings.webhook_retry_s, settings.webhook_give_up_hours * 3600),
            metrics,
            lease_s=2 * settings.webhook_timeout_s + 5,
        ),
        audit=audit,
        workforce=workforce,
        exchange=exchange,
        intake=Intake(
            exchange,
            ImageLimits(settings.max_images, settings.max_image_bytes),
            settings.max_waiting_bytes,
            servers=len(servers),
        ),
        batcher=batcher,
        versions=VersionCache(registry, settings.version_cache_s),
        dispatcher=JobDispatcher(celery, ledger, served=partial(_kinds_served, workforce)),
        cleanup=Cleanup(
            ledger,
            datasets,
            registry,
            blobs,
            settings.uploads,
            keep_jobs=timedelta(days=settings.keep_jobs_days),
            keep_images=timedelta(hours=settings.keep_images_hours),
            audit=audit,
            keep_audit=timedelta(days=settings.keep_audit_days),
            sketches=book,
            keep_sketches=timedelta(days=settings.keep_sketches_days),
        ),
        metrics=metrics,
        stats=StatsCollector(ledger, celery, settings.data, outbox, drift),
        statistics=statistics,
        sketches=sketches,
        drift=drift,
        uploads=upload_slots(settings.max_uploads),
        event_streams=event_stream_slots(settings.max_event_streams),
        tracer=tracer,
    )


def _kinds_served(workforce: Workforce) -> list[str] | None:
    """The kinds of jobs that live workers of this cell do; None while no transit server tells of any."""
    if not workforce.reachable:
        return None
    return [kind.value for kind, task in TASK_OF_JOB.items() if workforce.on(QUEUE_OF_TASK[task])]


def _broker(settings: GatewaySettings) -> AsyncRedis:
    """Patient for as long as a publisher of Celery's is: its client waits."""
    retry = Retry(ExponentialBackoff(cap=0.25, base=0.05), 2)
    timeouts = {"socket_timeout": 5, "socket_connect_timeout": 3}
    return connect_async(settings.broker_url, **timeouts, health_check_interval=15, retry=retry)


def _lookout(server: TransitServer, exchange: CeleryExchange, metrics: GatewayMetrics) -> Lookout:
    return Lookout(
        connect_for_heartbeats_async(server.url),
        server.number,
        on_malformed=partial(metrics.observe_malformed, "heartbeat"),
        on_lost=exchange.on_worker_lost,
        # With one server whoever listens for replies notices by himself; among several, what waits goes elsewhere.
        on_unreachable=None if exchange.is_one else partial(exchange.interrupt, server.name),
    )


def _limits_redis(server: TransitServer) -> AsyncRedis:
    """One that does not answer must not hold up the requests: they pass uncounted then."""
    once_more = Retry(NoBackoff(), 1)
    return connect_async(server.url, socket_timeout=1, socket_connect_timeout=1, retry=once_more)


if __name__ == "__main__":
    sys.exit(main())
