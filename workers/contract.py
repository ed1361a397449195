"""What gateway and workers tell each other: queues, tasks, messages, and the requests and results of jobs.

Processes of different releases run side by side during an upgrade, and rows outlive them, so a reader ignores
fields that it does not know and every field added after the first release has a default. A snapshot test holds the
JSON of each message, request and result.
"""

import dataclasses
import functools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_serializer

from models.dataset.builtin import DIGITS
from models.training.recipe import PresetName, Recipe, RecipeChoice, RecipeOverrides, resolve_recipe

HEARTBEAT_PREFIX = "fovea:worker:"
# The set of the names that heartbeats are kept under: a search for them would pass every image in transit.
WORKERS_KEY = "fovea:workers"
REPLY_PREFIX = "fovea:reply:"
IMAGE_PREFIX = "fovea:image:"
LONGEST_SHOWN = 80


class Queue(StrEnum):
    INTERACTIVE = "inference.interactive"
    BULK = "inference.bulk"
    TRAINING = "training"


class TaskName(StrEnum):
    CLASSIFY_BATCH = "inference.classify_batch"
    RUN_BULK_JOB = "inference.run_job"
    RUN_TRAINING_JOB = "training.run_job"


QUEUE_OF_TASK: Mapping[TaskName, Queue] = {
    TaskName.CLASSIFY_BATCH: Queue.INTERACTIVE,
    TaskName.RUN_BULK_JOB: Queue.BULK,
    TaskName.RUN_TRAINING_JOB: Queue.TRAINING,
}


class JobKind(StrEnum):
    CLASSIFY = "classify"
    INGEST = "ingest"
    FINETUNE = "finetune"
    PUBLISH = "publish"


TASK_OF_JOB: Mapping[JobKind, TaskName] = {
    JobKind.CLASSIFY: TaskName.RUN_BULK_JOB,
    JobKind.INGEST: TaskName.RUN_BULK_JOB,
    JobKind.FINETUNE: TaskName.RUN_TRAINING_JOB,
    JobKind.PUBLISH: TaskName.RUN_TRAINING_JOB,
}


@dataclass(frozen=True)
class ClassifyBatch:
    """Images waiting for one model version; their bytes lie in Redis under `images` for a while.

    `deadline` is in Unix seconds: nobody waits for the answer after it, so the worker drops the batch.
    `top_k` is the largest any of the requests asked for. Without images it asks for the model to be loaded.
    `traceparent` is the batch's place in a trace, as W3C writes it; None when it is not traced.
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
class ImageOutcome:
    """One image's answer: its best classes, or why there is none (`error` is a stable code)."""

    classes: tuple[ClassScore, ...] = ()
    error: str | None = None
    detail: str | None = None


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
    """The one answer to a `ClassifyBatch`; `error` is set when the batch as a whole failed."""

    batch: str
    worker: str
    provider: str = ""
    outcomes: tuple[ImageOutcome, ...] = ()
    timings: BatchTimings = field(default_factory=BatchTimings)
    error: str | None = None
    detail: str | None = None


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


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


# What a job is asked, as its row keeps it and, for what clients ask for by JSON, as the API takes it.


class JobRequest(BaseModel):
    """Base of the requests. A client is told of fields that there are not; `read_request` ignores such."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IngestRequest(JobRequest):
    """Make a dataset of an uploaded archive."""

    dataset: str = Field(description="The id that the dataset has already.")
    upload: str = Field(description="The blob of the archive.")
    name: str = ""
    on_fault: Literal["skip", "refuse"] = "skip"


class ClassifyRequest(JobRequest):
    """Classify images that lie among the blobs; `names` are the files' names where the client gave any."""

    model: str
    version: int
    top_k: int
    images: tuple[str, ...]
    names: tuple[str | None, ...]


class ValidationOptions(BaseModel):
    """How validation images are chosen where the dataset has no split of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    fraction: float = Field(0.2, ge=0.01, le=0.9, description="Share of each class that validates.")


class FinetuneRequest(JobRequest):
    """Learn a dataset's classes; every field but the first three is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "dataset": "builtin:digits",
                "architecture": "lenet5",
                "weights": "none",
                "promote": "always",
            }
        },
    )

    model: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$",
        description="The model whose next version this becomes: small letters, digits, `.`, `_`, `-`.",
    )
    dataset: str = Field(min_length=1, description="A dataset's id, or `builtin:digits`.")
    architecture: str = Field(min_length=1, description="A name from `/v1/architectures`.")
    architecture_params: dict[str, Any] = Field(
        default_factory=dict,
        description='What the architecture takes, for instance `{"pattern": "INPUT -> ..."}` of `convnet`.',
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="What to start from: `imagenet`, `none`, the id of imported weights, or a model reference.",
    )
    strategy: Literal["auto", "head", "partial", "full"] = Field(
        "auto",
        description="Which layers learn: `head` (the backbone is frozen), `partial` (its last stages too), "
        "`full`; `auto` decides by the images of each class and says why.",
    )
    recipe: RecipeChoice = Field(
        "default", description="A preset, or an object that overrides single fields of one."
    )
    validation: ValidationOptions = Field(
        ValidationOptions(),
        description="How validation images are chosen where the dataset has no split of its own.",
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        strict=True,
        description="The same seed gives the same split and, on one kind of machine, the same weights.",
    )
    promote: Literal["never", "if_better", "always"] = Field(
        "never",
        description="Whether `production` moves to the new version; `if_better` compares on the same images.",
    )

    @field_serializer("recipe")
    def _recipe_as_given(self, recipe: str | RecipeOverrides) -> str | dict[str, Any]:
        """The row keeps what was asked for: a preset is what the release that trains knows by its name."""
        return recipe if isinstance(recipe, str) else recipe.model_dump(exclude_unset=True)

    @property
    def preset(self) -> PresetName | None:
        """The recipe's preset; None for overrides. The built-in digits have a default of their own."""
        if isinstance(self.recipe, RecipeOverrides):
            return None
        return "digits" if self.recipe == "default" and self.dataset == DIGITS else self.recipe

    def resolved_recipe(self) -> Recipe:
        """The whole recipe that was asked for."""
        return resolve_recipe(self.recipe if self.preset is None else self.preset)


class PublishOptions(BaseModel):
    """Zoo weights to a served version."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"architecture": "resnet18", "weights": "imagenet", "promote": "always"}},
    )

    architecture: str = Field(min_length=1, description="A name from /v1/architectures.")
    weights: str = Field("imagenet", min_length=1, description="`imagenet`, or the id of other weights.")
    architecture_params: dict[str, Any] = Field(default_factory=dict)
    promote: Literal["never", "if_better", "always"] = Field(
        "always", description="Whether `production` moves to it; `if_better`: if there is none yet."
    )


class PublishRequest(PublishOptions, JobRequest):
    """`PublishOptions` with the model that the call names."""

    model: str


# What came of a job, as its row keeps it and the API shows it.


class JobResult(BaseModel):
    """Base of the results."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class IngestResult(JobResult):
    """`dataset` is the one to use: another than was asked for where its content was known already."""

    dataset: str
    images: int = Field(description="How many can be used.")
    faults: dict[str, int] = Field(default_factory=dict, description="How many files have each fault.")
    duplicate_of: str | None = Field(None, description="The dataset that had the same content already.")


class ClassifiedImage(JobResult):
    """One image's answer; `classes` is null where `error` is not."""

    name: str | None
    classes: tuple[ClassScore, ...] | None
    error: dict[str, str | None] | None


class ClassifyResult(JobResult):
    """A prediction for each image in the order sent."""

    model: str
    version: int
    provider: str = Field(description="The execution provider that really ran.")
    predictions: tuple[ClassifiedImage, ...]


class PromotionResult(JobResult):
    """Whether `production` moved to the new version and why; `previous` is where it was before."""

    promoted: bool
    reason: str
    previous: int | None = None
    previous_accuracy: float | None = None


class StrategyResult(JobResult):
    """Which layers learnt, and why these."""

    strategy: Literal["head", "partial", "full"]
    reason: str


class FinetuneResult(JobResult):
    """The new version and how good it is; `seconds` are those of each phase."""

    model: str
    version: int
    metrics: dict[str, Any]
    promoted: bool
    promotion: PromotionResult
    strategy: StrategyResult
    stopped: str = Field(description="Why the training ended: `epochs`, `patience`, `solved` or `cancelled`.")
    seconds: dict[str, float]


class PublishResult(JobResult):
    """The new version; `metrics.published` are the publisher's figures, not measured here."""

    model: str
    version: int
    metrics: dict[str, Any]
    promoted: bool
    seconds: dict[str, float]


REQUEST_OF_JOB: Mapping[JobKind, type[JobRequest]] = {
    JobKind.CLASSIFY: ClassifyRequest,
    JobKind.INGEST: IngestRequest,
    JobKind.FINETUNE: FinetuneRequest,
    JobKind.PUBLISH: PublishRequest,
}
RESULT_OF_JOB: Mapping[JobKind, type[JobResult]] = {
    JobKind.CLASSIFY: ClassifyResult,
    JobKind.INGEST: IngestResult,
    JobKind.FINETUNE: FinetuneResult,
    JobKind.PUBLISH: PublishResult,
}
Request = TypeVar("Request", bound=JobRequest)


def read_request(kind: type[Request], row: Mapping[str, Any]) -> Request:
    """A job's request from its row; what a newer release added is ignored. Raises pydantic's ValidationError."""
    return kind.model_validate(row, extra="ignore")
