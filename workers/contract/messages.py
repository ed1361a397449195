"""The messages between gateway and workers, which travel as JSON.

Processes of different releases run side by side during an upgrade, so a reader ignores fields that it does not
know, and every field added after the first release has a default. A snapshot test holds the JSON of each.
"""

import dataclasses
import functools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import structlog
from pydantic import TypeAdapter, ValidationError

from models.drift.sketch import Sketch

LONGEST_SHOWN = 80
log = structlog.get_logger()


@dataclass(frozen=True)
class Explain:
    """What is asked about why: of the class of that `index`, of each image's best one where it is None.

    `method` is one of `models.explanation.method`, or `auto`. `overlay` asks for the map drawn over the image.
    """

    index: int | None = None
    method: str = "auto"
    overlay: bool = False


@dataclass(frozen=True)
class ClassifyBatch:
    """Images waiting for one model version; their bytes lie in Redis under `images` for a while.

    `deadline` is in Unix seconds: nobody waits for the answer after it, so the worker drops the batch.
    `top_k` is the largest any of the requests asked for. Without images it asks for the model to be loaded.
    `precision` is what was asked for; where it is empty, the worker chooses.
    `traceparent` is the batch's place in a trace, as W3C writes it; None when it is not traced. `after_death` when
    images of it were in hand when their worker died: one of them may have been the reason. `server` is the name of
    the transit server that has the images and gets the reply; empty in releases that knew one only.

    `outputs` names what is wanted of the network beside the classes. Where the images are `prepared` they are no
    files but pixels, as `models.preprocess` makes them: uint8 `[height, width, 3]`, row by row. With a `coverage`
    each image gets its set of classes that holds the truth with that probability. `similar` is how many of the
    training images that are nearest to each are wanted. `explain` asks for an explanation of each image.
    """

    batch: str
    reply_to: str
    model: str
    version: int
    artifact: str
    images: tuple[str, ...]
    request_ids: tuple[str, ...]
    top_k: int
    deadline: float
    sent_at: float
    traceparent: str | None = None
    after_death: bool = False
    precision: str = ""
    server: str = ""
    outputs: tuple[str, ...] = ()
    prepared: bool = False
    coverage: float | None = None
    similar: int = 0
    explain: Explain | None = None


@dataclass(frozen=True)
class InHand:
    """What a worker works on, for those that it leaves behind: the images' keys, and the model's files."""

    images: tuple[str, ...]
    artifact: str


@dataclass(frozen=True)
class Suspicion:
    """Against an image or a model: it was in hand when a worker died, or, once `convicted`, ended its process.

    `reason` says how that process ended, in a few words. `at` is in Unix seconds.
    """

    at: float
    convicted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class RunJob:
    """A durable job to take. Everything else about it is in the database."""

    job: str


@dataclass(frozen=True)
class ClassScore:
    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class SimilarImage:
    """A training image by its sha256, with its class and the cosine distance of the embeddings, 0 to 2."""

    sha256: str
    label: str
    distance: float


@dataclass(frozen=True)
class UnknownScore:
    """How foreign an image is to the version, by its own scale; unknown above `threshold`, where it has one."""

    score: float
    threshold: float | None
    is_unknown: bool | None


@dataclass(frozen=True)
class Explanation:
    """Where in an image a class was seen. `rows` are the map's, upright, each value from 0 to 1.

    0 stands for `low` and 1 for `high`, in `unit`. `width` and `height` are the upright image's, and in it lie, as
    left, top, right and bottom in pixels, `region`, which the network saw and the map covers, and `box`, the map's
    strongest part. `overlay` is a PNG file in base64.
    """

    explained: ClassScore
    method: str
    rows: tuple[tuple[float, ...], ...]
    low: float
    high: float
    unit: str
    width: int
    height: int
    region: tuple[float, float, float, float]
    box: tuple[float, float, float, float]
    overlay: str | None = None


@dataclass(frozen=True)
class ImageOutcome:
    """One image's answer: its best classes, or why there is none (`error` is a stable code).

    `outputs` has the batch's: float32, little-endian, in base64. `unknown` is None where the version has no
    detector. What was not asked for is None: `prediction_set` has the classes of the batch's `coverage`, best
    first, `similar` the nearest training images, the nearest first, and `explanation` where a class was seen.
    """

    classes: tuple[ClassScore, ...] = ()
    error: str | None = None
    detail: str | None = None
    outputs: dict[str, str] | None = None
    unknown: UnknownScore | None = None
    prediction_set: tuple[ClassScore, ...] | None = None
    similar: tuple[SimilarImage, ...] | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True)
class BatchTimings:
    """Milliseconds for the whole batch: waiting in the queue, fetching bytes, and the work of decoding and of
    inference, each summed over the threads that shared it."""

    queue_ms: float = 0.0
    fetch_ms: float = 0.0
    decode_ms: float = 0.0
    inference_ms: float = 0.0


@dataclass(frozen=True)
class ClassifyReply:
    """The one answer to a `ClassifyBatch`; `error` is set when the batch as a whole failed.

    `sketch` is of what the worker has answered for the version since the last one; most replies have none.
    """

    batch: str
    worker: str
    provider: str = ""
    outcomes: tuple[ImageOutcome, ...] = ()
    timings: BatchTimings = field(default_factory=BatchTimings)
    error: str | None = None
    detail: str | None = None
    precision: str = "float32"
    sketch: Sketch | None = None


@dataclass(frozen=True)
class Heartbeat:
    """Written by a worker's consumer loop every fraction of a second, under a short time to live.

    `slots` is how many messages the worker handles at once. `providers` are the execution providers it really
    runs, not those it asked for. `disk_free_bytes` is what is left where its data folder lies.
    """

    worker: str
    queues: tuple[str, ...]
    slots: int
    device: str = ""
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    started_at: float = 0.0
    disk_free_bytes: int | None = None


Message = TypeVar("Message")


def encode(message: Any) -> dict[str, Any]:
    """A message as plain JSON types."""
    return dataclasses.asdict(message)


class InvalidMessage(Exception):
    """What came is no message of that kind; the text names the first field that is wrong."""


def decode(kind: type[Message], payload: Mapping[str, Any] | bytes | str) -> Message:
    """A message from JSON text, or from what another library parsed of it, where a number may be spelled as text.

    Unknown fields are ignored, so that an older reader understands a newer writer. Raises InvalidMessage.
    """
    adapter: TypeAdapter[Message] = _adapter(cast(Hashable, kind))
    try:
        if isinstance(payload, bytes | str):
            message = adapter.validate_json(payload, strict=True)
        else:
            message = adapter.validate_python(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the message"
        given = repr(first["input"])
        shown = given if len(given) <= LONGEST_SHOWN else given[:LONGEST_SHOWN] + "..."
        raise InvalidMessage(f"{kind.__name__}: {where}: {first['msg']}; given was {shown}") from error
    return message


def read_message(kind: type[Message], payload: Any) -> Message | None:
    """What a worker was sent; None, with a line in the log, for what would fail as often as it is delivered."""
    try:
        return decode(kind, payload)
    except InvalidMessage as error:
        log.error("message.dropped", reason=str(error))
        return None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
