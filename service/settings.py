"""What the gateway reads from its environment (`FOVEA_...`)."""

import re
from pathlib import Path

from pydantic import Field, field_validator

from service.webhooks.address import Allowed
from storage.keys import KeyLimits
from storage.settings import StorageSettings
from system.loopback import is_loopback
from workers.celery_app import QueueSettings
from workers.logs import LogFormat, LogLevel
from workers.traces import TraceSettings

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#*]+")


class GatewaySettings(StorageSettings, QueueSettings, TraceSettings):
    """Every field can be set by an environment variable of its name with the prefix `FOVEA_`."""

    host: str = Field("127.0.0.1", description="Address to listen on; keys are required on all but loopback.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    grpc_port: int = Field(
        8001, ge=0, le=65535, description="Port of the Open Inference Protocol by gRPC; 0: none."
    )
    listen_fds: str = Field(
        "",
        pattern=r"^(\d+(,\d+)*)?$",
        description="Sockets to accept from instead, held by who starts the gateway: descriptors, `3` or `3,4`.",
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        description="How long a gateway that was told to end still answers, until nobody sends to it.",
    )

    weights_dir: Path | None = Field(None, description="Where published weights lie; `weights` under `data`.")

    max_image_bytes: int = Field(32 * 2**20, gt=0, description="Largest single image.")
    max_body_bytes: int = Field(128 * 2**20, gt=0, description="Largest body of a classify request, all images.")
    max_upload_bytes: int = Field(20 * 2**30, gt=0, description="Largest archive of a dataset.")
    max_model_bytes: int = Field(
        2 * 2**30, gt=0, le=2**31, description="Largest model file; ONNX can have no larger one."
    )
    max_images: int = Field(64, gt=0, description="Most images in one classify request.")
    max_connections: int = Field(
        1000, gt=0, description="Open connections; then an idle one is closed for a new one, else 503."
    )
    max_connections_per_address: int = Field(
        0, ge=0, description="Those from one address, before 503; 0: no limit, as it must be behind a proxy."
    )
    max_event_streams: int = Field(100, gt=0, description="Event streams open at once before 429.")
    event_stream_s: float = Field(
        300.0,
        gt=0,
        description="The longest event stream; its client comes back with `Last-Event-ID`.",
    )
    max_uploads: int = Field(8, gt=0, description="Archives received at once before 429.")
    header_timeout_s: float = Field(10.0, gt=0, description="How long a request's header may take; then 408.")
    body_timeout_s: float = Field(
        20.0,
        gt=0,
        description="How long a body may come too slowly (then 408), or an answer not be taken.",
    )
    body_min_bytes_s: int = Field(
        1024, ge=0, description="Bytes a second that a body must bring on average of `body_timeout_s`."
    )
    keep_alive_s: float = Field(75.0, gt=0, description="How long a connection may be idle before it is closed.")
    max_batch: int = Field(16, gt=0, description="Most images in one queue message.")
    max_batch_bytes: int = Field(64 * 2**20, gt=0, description="A batch closes when its images reach this size.")
    max_waiting: int = Field(256, gt=0, description="Images waiting or in flight before 429.")
    max_waiting_bytes: int = Field(
        512 * 2**20,
        gt=0,
        description="Bytes of those, and of those being received, before 429; on each transit server.",
    )
    classify_timeout_s: float = Field(30.0, gt=0, description="Deadline of a classify request.")
    version_cache_s: float = Field(1.0, ge=0, description="How long a model reference may be remembered.")

    reconcile_interval_s: float = Field(5.0, gt=0, description="How often lost jobs are looked for.")
    requeue_after_s: float = Field(60.0, gt=0, description="A job queued for longer than this is sent again.")
    keep_jobs_days: float = Field(90.0, gt=0, description="How long the record of an ended job is kept.")
    keep_images_hours: float = Field(
        0.0, ge=0, description="How long the images of an ended asynchronous classify job are kept."
    )
    keep_audit_days: float = Field(365.0, gt=0, description="How long an entry of the audit log is kept.")
    cleanup_interval_s: float = Field(300.0, gt=0, description="How often what nobody needs any more is deleted.")
    drift: bool = Field(True, description="Keep sketches of what versions answer, to see drift; no images.")
    drift_write_s: float = Field(10.0, gt=0, description="How often sketches are written to the database.")
    keep_sketches_days: float = Field(30.0, gt=0, description="How long the sketch of an hour is kept.")
    heartbeat_poll_s: float = Field(0.25, gt=0, description="How often the workers' signs of life are read.")

    allowed_hosts: str = Field(
        "", description="Names that browsers call the gateway by, with commas between; `*.NAME` for all below one."
    )
    cors_origins: str = Field(
        "", description="Origins whose pages may use the API, with commas between: `https://lab.example.org`."
    )

    key_requests_per_second: int = Field(
        0, ge=0, description="Requests a second with one key before 429; 0: any number."
    )
    key_images_in_flight: int = Field(
        0, ge=0, description="Images of one key on their way before 429; 0: any number."
    )
    key_jobs_waiting: int = Field(0, ge=0, description="Queued jobs of one key before 429; 0: any number.")
    key_bytes_stored: int = Field(
        0, ge=0, description="Bytes of the datasets uploaded with one key before 429; 0: any number."
    )

    webhook_allow: str = Field(
        "",
        description="Receivers of webhooks that are internal or speak plain HTTP: hosts, addresses, networks such "
        "as `10.0.0.0/8`, with commas between.",
    )
    webhook_timeout_s: float = Field(10.0, gt=0, le=60, description="How long a receiver of a webhook may take.")
    webhook_retry_s: float = Field(
        10.0,
        gt=0,
        description="The wait after a webhook message's first failure; each further is 3 times as long.",
    )
    webhook_give_up_hours: float = Field(
        24.0, gt=0, description="For how long a webhook's message is tried again before it is given up."
    )

    metrics_open: bool = Field(False, description="Let `/metrics` be read without a key where keys are required.")

    log_format: LogFormat = Field("text", description="`text` for people, `json` for machines.")
    log_level: LogLevel = Field("INFO", description="Lowest level that is logged.")

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        """`*` is none: then any page could use a gateway that asks for no key."""
        for origin in _listed(text):
            if not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; expected SCHEME://HOST or SCHEME://HOST:PORT")
        return text

    @field_validator("webhook_allow")
    @classmethod
    def _are_receivers(cls, text: str) -> str:
        Allowed.parse(text)
        return text

    @property
    def webhook_allowed(self) -> Allowed:
        return Allowed.parse(self.webhook_allow)

    @property
    def host_names(self) -> frozenset[str]:
        return _listed(self.allowed_hosts)

    @property
    def origins(self) -> frozenset[str]:
        return _listed(self.cors_origins)

    @property
    def uploads(self) -> Path:
        """Where bodies are received that do not fit into memory."""
        return self.data / "uploads"

    @property
    def key_limits(self) -> KeyLimits:
        """Those of a key without limits of its own."""
        return KeyLimits(
            self.key_requests_per_second, self.key_images_in_flight, self.key_jobs_waiting, self.key_bytes_stored
        )

    @property
    def is_one_machine(self) -> bool:
        """Whether the workers must be on this machine too, since they share a file with the gateway."""
        return self.database.startswith("sqlite")

    @property
    def listening(self) -> tuple[int, ...]:
        """The descriptors in `listen_fds`."""
        return tuple(int(number) for number in self.listen_fds.split(",") if number)

    @property
    def requires_key(self) -> bool:
        """True unless only this machine can reach the gateway."""
        return not is_loopback(self.host)


def _listed(text: str) -> frozenset[str]:
    return frozenset(filter(None, (part.strip().lower().rstrip("/") for part in text.split(","))))
