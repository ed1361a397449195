"""What Prometheus sees: the gateway's own figures and those that workers report with each reply."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from workers.contract import BatchTimings

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)


@dataclass
class Metrics:
    """One registry for one application, so that several can live in a test."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"fovea_{name}", text, buckets=buckets, registry=self.registry)

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
        self.waiting = Gauge("fovea_waiting_images", "Images admitted, not yet answered.", registry=self.registry)
        self.workers = Gauge("fovea_workers", "Live workers.", ["queue"], registry=self.registry)
        self.providers = Gauge(
            "fovea_worker_provider",
            "Live workers by the execution provider they really run.",
            ["provider"],
            registry=self.registry,
        )

    def observe_batch(self, size: int, timings: BatchTimings) -> None:
        self.batch_size.observe(size)
        self.queue_seconds.observe(timings.queue_ms / 1e3)
        self.fetch_seconds.observe(timings.fetch_ms / 1e3)
        self.decode_seconds.observe(timings.decode_ms / 1e3)
        self.inference_seconds.observe(timings.inference_ms / 1e3)

    def observe_wait(self, waited_ms: float) -> None:
        self.wait_seconds.observe(waited_ms / 1e3)

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
