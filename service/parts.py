"""What the routes work with. Built by `main.py` from the environment, by tests from whatever they like."""

from dataclasses import dataclass, field

from fastapi import Request

from service.auth import Authenticator
from service.background import Background
from service.batcher import Batcher
from service.cleanup import Cleanup
from service.dataset_images import DatasetImages
from service.dispatch import JobDispatcher
from service.draining import Draining
from service.drift import DriftWatch
from service.exchange import CeleryExchange
from service.intake import Intake
from service.limits import KeyLimiter
from service.metrics import GatewayMetrics
from service.protocol.statistics import Statistics
from service.settings import GatewaySettings
from service.sketches import ServedSketches
from service.slots import Slots
from service.stats import StatsCollector
from service.versions import VersionCache
from service.webhooks.sender import WebhookSender
from service.workforce import Workforce
from storage.audit import AuditLog
from storage.blobs import BlobStore
from storage.database import Database
from storage.datasets import DatasetRegistry
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry
from storage.webhooks import WebhookRegistry
from workers.traces import Tracer


@dataclass(frozen=True)
class Parts:
    settings: GatewaySettings
    database: Database
    registry: ModelRegistry
    ledger: JobLedger
    datasets: DatasetRegistry
    dataset_images: DatasetImages
    blobs: BlobStore
    auth: Authenticator
    limiter: KeyLimiter
    webhooks: WebhookRegistry
    webhook_sender: WebhookSender
    audit: AuditLog
    workforce: Workforce
    exchange: CeleryExchange
    intake: Intake
    batcher: Batcher
    versions: VersionCache
    dispatcher: JobDispatcher
    cleanup: Cleanup
    metrics: GatewayMetrics
    stats: StatsCollector
    statistics: Statistics
    sketches: ServedSketches
    drift: DriftWatch
    uploads: Slots
    event_streams: Slots
    tracer: Tracer | None = None
    background: Background = field(default_factory=Background)
    draining: Draining = field(default_factory=Draining)


def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def traceparent_of(request: Request) -> str | None:
    """Where the request stands in its trace; None when it has none."""
    tracer = parts_of(request).tracer
    return tracer.current() if tracer else None
