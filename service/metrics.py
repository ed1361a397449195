"""What Prometheus sees: the gateway's own metrics and those that workers report with each reply."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from service.stats import QueueStats
from storage.job import JobState
from workers.contract.messages import BatchTimings, Heartbeat
from workers.contract.queues import JobKind, Queue

MessageKind = Literal["heartbeat", "reply"]
WebhookOutcome = Literal["delivered", "failed", "given_up"]
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
# Users name models, and every name is a time series for ever: beyond so many they are counted together.
MOST_MODELS = 200
OTHER_MODELS = "_other"  # no model can be called that


@dataclass
class GatewayMetrics:
    """One registry for one application, so that several can live in a test."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"fovea_{name}", text, buckets=buckets, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"fovea_{name}", text, labels, registry=self.registry)

        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "fovea_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.failures = Counter(
            "fovea_failures",
            "Requests and images that failed, by the code told.",
            ["code"],
            registry=self.registry,
        )
        self.images = Counter("fovea_images", "Images classified.", ["model"], registry=self.registry)
        self.unknown = Counter(
            "fovea_unknown_images",
            "Images classified that show none of the version's classes, by its detector.",
            ["model"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "fovea_request_seconds",
            "From the request's arrival to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_size = histogram("batch_size", "Images in one queue message.", SIZES)
        self.wait_seconds = histogram("wait_seconds", "An image's wait in the gateway before its batch left.")
        self.queue_seconds = histogram("queue_seconds", "A batch's time in the queue before a worker took it.")
        self.fetch_seconds = histogram("fetch_seconds", "Reading a batch's bytes in the worker.")
        self.decode_seconds = histogram("decode_seconds", "Decoding and resizing a batch.")
        self.inference_seconds = histogram("inference_seconds", "Inference of a batch.")
        self.waiting = gauge("waiting_images", "Images admitted, not yet answered.")
        self.workers = gauge("workers", "Live workers.", "queue")
        self.slots = gauge("worker_slots", "Messages that the live workers take at once.", "queue")
        self.providers = gauge(
            "worker_provider", "Live workers by the execution provider they really run.", "provider"
        )
        self.worker_disk = gauge("worker_disk_free_bytes", "Free disk of the worker that has least.", "queue")
        self.worker_starts = Counter(
            "fovea_worker_starts",
            "Workers that began while this gateway looked: restarts, once all have started.",
            ["queue"],
            registry=self.registry,
        )
        self.malformed = Counter(
            "fovea_malformed_messages",
            "Heartbeats and replies that could not be read, and were left out.",
            ["kind"],
            registry=self.registry,
        )
        self.uncounted = Counter(
            "fovea_uncounted_by_limits",
            "Requests and groups of images that passed a key's limit because Redis did not count them.",
            registry=self.registry,
        )
        self.transit_up = gauge(
            "transit_up", "1 when that transit server answered at the last look, else 0.", "server"
        )
        self.transit_batches = Counter(
            "fovea_transit_batches", "Batches sent by that transit server.", ["server"], registry=self.registry
        )
        self.webhook_deliveries = Counter(
            "fovea_webhook_deliveries",
            "Attempts to deliver a webhook's message, by what came of them.",
            ["outcome"],
            registry=self.registry,
        )
        self.webhook_oldest = gauge(
            "webhook_oldest_seconds", "How long the oldest message to a webhook waits to be delivered.", "state"
        )
        self.part_up = gauge("part_up", "1 when the part answered at the last look, else 0.", "part")
        self.queue_length = gauge("queue_length", "Messages that wait in the broker.", "queue")
        self.queue_age = gauge("queue_age_seconds", "How long the oldest message or queued job waits.", "queue")
        self.jobs = gauge("jobs", "Jobs on record.", "kind", "state")
        self.disk_free = gauge("disk_free_bytes", "Free disk where the gateway's folder lies.", "folder")
        self.disk_total = gauge("disk_total_bytes", "Size of that disk.", "folder")
        self.drift = gauge(
            "drift",
            "1 where what a model was sent for a day differs from what it was validated on, else 0.",
            "model",
        )
        self.drift_distance = gauge(
            "drift_distance", "The greatest distance of its answers' distributions, 0 to 1.", "model"
        )
        self._models: set[str] = set()
        for queue in Queue:
            self.worker_starts.labels(queue.value)
        for kind in get_args(MessageKind):
            self.malformed.labels(kind)
        for outcome in get_args(WebhookOutcome):
            self.webhook_deliveries.labels(outcome)

    def observe_images(self, model: str, images: int, unknown: int = 0) -> None:
        """`unknown` of them show none of the version's classes."""
        if model not in self._models:
            if len(self._models) >= MOST_MODELS:
                model = OTHER_MODELS
            else:
                self._models.add(model)
        self.images.labels(model).inc(images)
        # Of a model without any it says 0, so that a rate has the first one.
        self.unknown.labels(model).inc(unknown)

    def observe_rpc(self, route: str, status: int, seconds: float) -> None:
        """A call of gRPC's, by the status that HTTP has for its outcome."""
        self.requests.labels(route, "RPC", status).inc()
        self.request_seconds.labels(route).observe(seconds)

    def observe_malformed(self, kind: MessageKind) -> None:
        self.malformed.labels(kind).inc()

    def observe_sent(self, server: int) -> None:
        self.transit_batches.labels(str(server)).inc()

    def observe_start(self, worker: Heartbeat) -> None:
        for queue in Queue:
            if queue.value in worker.queues:
                self.worker_starts.labels(queue.value).inc()

    def observe_batch(self, size: int, timings: BatchTimings) -> None:
        self.batch_size.observe(size)
        self.queue_seconds.observe(timings.queue_ms / 1e3)
        self.fetch_seconds.observe(timings.fetch_ms / 1e3)
        self.decode_seconds.observe(timings.decode_ms / 1e3)
        self.inference_seconds.observe(timings.inference_ms / 1e3)

    def observe_wait(self, waited_ms: float) -> None:
        self.wait_seconds.observe(waited_ms / 1e3)

    def set_transit(self, answering: Mapping[int, bool]) -> None:
        """By the servers' numbers. The part is there as long as one of them answers."""
        self.part_up.labels("transit").set(any(answering.values()))
        for number, is_up in answering.items():
            self.transit_up.labels(str(number)).set(is_up)

    def set_workers(self, workers: Sequence[Heartbeat]) -> None:
        self.providers.clear()
        self.worker_disk.clear()
        for queue in Queue:
            on = [worker for worker in workers if queue.value in worker.queues]
            self.workers.labels(queue.value).set(len(on))
            self.slots.labels(queue.value).set(sum(worker.slots for worker in on))
            free = [worker.disk_free_bytes for worker in on if worker.disk_free_bytes is not None]
            if free:
                self.worker_disk.labels(queue.value).set(min(free))
        for worker in workers:
            for provider in worker.providers:
                self.providers.labels(provider).inc()

    def set_queue_stats(self, stats: QueueStats) -> None:
        """What could not be counted has no value, rather than an old one."""
        self.part_up.labels("database").set(stats.jobs is not None)
        self.part_up.labels("broker").set(stats.backlog is not None)
        for gauge in (
            self.jobs,
            self.queue_length,
            self.queue_age,
            self.disk_free,
            self.disk_total,
            self.webhook_oldest,
            self.drift,
            self.drift_distance,
        ):
            gauge.clear()
        if stats.webhooks_oldest_s is not None:
            self.webhook_oldest.labels("pending").set(stats.webhooks_oldest_s)
        for figure in stats.drift or ():
            self.drift.labels(figure.model).set(figure.is_drift)
            self.drift_distance.labels(figure.model).set(figure.distance)
        if stats.jobs is not None:
            # A series that begins at its first failure would hide that failure from a rate.
            for kind, state in product(JobKind, JobState):
                self.jobs.labels(kind.value, state.value).set(0)
        for count in stats.jobs or ():
            self.jobs.labels(count.kind, count.state.value).set(count.jobs)
        for queue, length in (stats.backlog.lengths if stats.backlog else {}).items():
            self.queue_length.labels(queue.value).set(length)
        for queue, age_s in stats.ages_s().items():
            self.queue_age.labels(queue.value).set(age_s)
        if stats.disk:
            self.disk_free.labels("data").set(stats.disk.free)
            self.disk_total.labels("data").set(stats.disk.total)

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
