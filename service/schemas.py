"""The JSON of requests and answers, as pydantic models: what OpenAPI shows and what requests are held to."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl

from models.formats import MEDIA_TYPES
from storage.reference import MOST_TAGS, TAG
from storage.text import LONGEST_DESCRIPTION, description_fault
from workers.contract.jobs import UploadOptions
from workers.contract.queues import JobKind
from workers.contract.revisions import RevisionOptions

Item = TypeVar("Item")


class ProblemBody(BaseModel):
    """RFC 9457 `application/problem+json`."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; what programs look at.")
    detail: str = Field(description="What was given, what was expected, how to fix it.")
    request_id: str
    errors: list[dict[str, str]] | None = Field(
        None, description="The wrong fields of an `invalid_request`, each with `field` and `message`; 20 at most."
    )


class ClassOut(BaseModel):
    index: int
    label: str
    probability: float


class ErrorOut(BaseModel):
    code: str
    detail: str


class SetOut(BaseModel):
    coverage: float
    classes: list[ClassOut] = Field(description="Best first; never empty.")


class UnknownOut(BaseModel):
    """How foreign an image is to the version, on that version's own scale."""

    score: float = Field(description="Higher is more foreign.")
    threshold: float | None = Field(description="Above it the image is unknown; null where there is none.")
    is_unknown: bool | None = Field(description="Whether it shows none of the classes; null without a threshold.")


class PredictionOut(BaseModel):
    name: str | None = Field(description="The file's name, where the client gave one.")
    classes: list[ClassOut] | None = Field(description="Best first; null when this image failed.")
    set: SetOut | None = Field(
        description="The smallest that holds the truth with the probability `coverage`; null without one."
    )
    error: ErrorOut | None
    unknown: UnknownOut | None = Field(None, description="Null of a version without a detector.")


class Timings(BaseModel):
    """Milliseconds: waiting in the gateway, in the queue, decoding and inference of the batch, all together."""

    wait_ms: float | None = None
    queue_ms: float | None = None
    decode_ms: float | None = None
    inference_ms: float | None = None
    batch_size: int | None = None
    total_ms: float


class Classification(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "version": 1,
                "provider": "CPUExecutionProvider",
                "precision": "float32",
                "predictions": [
                    {
                        "name": None,
                        "classes": [
                            {"index": 3, "label": "3", "probability": 0.991},
                            {"index": 5, "label": "5", "probability": 0.006},
                        ],
                        "set": None,
                        "error": None,
                        "unknown": {"score": 38.2, "threshold": 112.4, "is_unknown": False},
                    }
                ],
                "timings": {
                    "wait_ms": 0.1,
                    "queue_ms": 2.1,
                    "decode_ms": 0.8,
                    "inference_ms": 0.4,
                    "batch_size": 1,
                    "total_ms": 6.3,
                },
            }
        }
    )

    model: str
    version: int
    provider: str | None = Field(description="The execution provider that really ran.")
    precision: str | None = Field(description="What the network was computed in: `float32`, `int8` or `fp16`.")
    predictions: list[PredictionOut] = Field(description="One for each image, in the order sent.")
    timings: Timings


class ImageSize(BaseModel):
    """Of the image as it is looked at, turned upright by its EXIF orientation."""

    width: int
    height: int


class BoxOut(BaseModel):
    """In pixels of the upright image."""

    left: float
    top: float
    right: float
    bottom: float


class MapOut(BaseModel):
    rows: list[list[float]] = Field(description="Values from 0 to 1 over the region, from its top left.")
    low: float = Field(description="What 0 stands for, in the unit.")
    high: float = Field(description="What 1 stands for.")
    unit: Literal["logit", "probability", "log-probability"]


class ExplainedOut(BaseModel):
    """Of an image that failed all but `name` and `error` are null."""

    model_config = ConfigDict(populate_by_name=True)

    name: str | None = Field(description="The file's name, where the client gave one.")
    explained: ClassOut | None = Field(alias="class", description="The class that the map is of.")
    method: Literal["cam", "recipro-cam", "occlusion"] | None
    map: MapOut | None
    image: ImageSize | None
    region: BoxOut | None = Field(description="What the network saw of the image; the map covers it.")
    box: BoxOut | None = Field(description="The map's strongest part: its maximum and what joins it.")
    overlay: str | None = Field(description="With `overlay=true`: the map drawn over the image, a PNG in base64.")
    error: ErrorOut | None


class ExplanationOut(BaseModel):
    model: str
    version: int
    provider: str | None = Field(description="The execution provider that really ran.")
    precision: str | None = Field(description="What the network was computed in; the head always in `float32`.")
    predictions: list[ExplainedOut] = Field(description="One for each image, in the order sent.")
    timings: Timings


class JobOut(BaseModel):
    """`request` and `result` are those of the job's kind; see `docs/api.md`."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    request: dict[str, Any]
    progress: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    attempt: int
    max_attempts: int
    cancel_requested: bool
    on_cancel: str | None = Field(
        description="What a cancellation leaves: `discard`, or `keep_best` as its result."
    )
    worker: str | None
    request_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobAccepted(JobOut):
    """A job that was just made."""

    warnings: list[str] = Field(description="What will be done, but may not be what was meant.")


class ModelOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    description: str | None = Field(description="What people wrote to it.")
    tags: list[str]
    versions: int = Field(description="How many there are.")
    latest: int | None
    aliases: dict[str, int]
    created_at: datetime
    updated_at: datetime


class VersionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    model: str
    version: int = Field(validation_alias="number")
    aliases: list[str]
    architecture: str
    labels: list[str]
    metrics: dict[str, Any]
    size_bytes: int
    job_id: str | None
    created_at: datetime


class VersionDetail(VersionOut):
    manifest: dict[str, Any] = Field(description="Everything known about how it was made.")


class VariantsOut(BaseModel):
    """Of one version. A report has what `variants` of its manifest has: see `docs/api.md`."""

    model: str
    version: int
    precisions: list[str] = Field(description="What it can be asked for: `float32`, and those that passed.")
    variants: dict[str, dict[str, Any]] = Field(
        description="The report of each precision that was tried: whether it `passed`, the `reason` if it did "
        "not, and the numbers."
    )


class FiltersOut(BaseModel):
    """Of one version: what its network sees. Sizes are height and width, in pixels; see `docs/api.md`."""

    model: str
    version: int
    kernels: dict[str, Any] = Field(
        description="Of the first convolution, with the `url` of their picture; without one, the `reason`."
    )
    images: dict[str, Any] | None = Field(
        description="How many images were `shown`, `of` how many, of which `part`; null where there were none."
    )
    layers: list[dict[str, Any]] = Field(
        description="Deeper ones, each with its receptive field, the `url` of its picture, and `filters` with "
        "their patches."
    )
    left_out: list[str] = Field(description="What is not shown and why, in sentences.")


class ComparedOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str = Field(
        description="`probability` (of a class), `top_probability`, `entropy` of all probabilities, `embedding`."
    )
    label: str | None = Field(description="The class whose probability it is.")
    distance: float = Field(
        description="The greatest difference of both distributions, 0 to 1; of the embedding that of the means, "
        "in spreads of the validation images."
    )
    p_value: float = Field(description="How probable so large a distance is where nothing differs.")
    adjusted_p_value: float = Field(description="The same for all comparisons together (Bonferroni).")
    drifted: bool = Field(description="Whether it is beyond chance and large enough to matter.")
    text: str = Field(description="What differs, in words; empty where nothing is said to.")


class DriftOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    model: str
    version: int
    window: Literal["hour", "day", "all"]
    state: Literal["off", "no_reference", "too_few", "none", "drift"]
    conclusion: str = Field(description="For people.")
    images: int = Field(description="Answered within the window.")
    reference_images: int | None = Field(description="The validation images that they are compared with.")
    since: datetime | None = Field(description="When the first hour began of which there is a sketch.")
    until: datetime | None
    quantities: list[ComparedOut] = Field(description="Empty unless the state is `none` or `drift`.")
    embedding: ComparedOut | None = Field(description="null where the network has no embedding, too.")
    level: float = Field(description="What an adjusted p-value has to be below for a drift.")
    least_distance: float = Field(description="What a quantity's distance has to be at least.")
    least_shift: float = Field(description="What the embedding's distance has to be at least.")
    fewest_images: int = Field(description="Images without which nothing is said.")


class EvaluatedDataset(BaseModel):
    id: str
    name: str
    content_hash: str
    images: int = Field(description="All that it has.")


class EvaluationOut(BaseModel):
    """Of `versions`, `comparisons` and `differing` see `docs/api.md`."""

    job: str
    dataset: EvaluatedDataset
    split: Literal["unseen", "train", "validation", "test", "all"]
    images: int = Field(description="How many were measured.")
    created_at: datetime
    warnings: list[str] = Field(description="What a reader of the figures must know.")
    versions: list[dict[str, Any]] = Field(description="The figures of each, in the order asked for.")
    comparisons: list[dict[str, Any]] = Field(description="Each version with each that follows it.")
    differing_images: int = Field(description="On how many not all versions give the same answer.")
    differing: list[dict[str, Any]] = Field(
        description="The first 100 of these images: first those that some get right and others do not."
    )


class DiagnosedDatasetOut(BaseModel):
    id: str
    name: str
    content_hash: str | None


class DiagnosisOut(BaseModel):
    """What each part has, `docs/api.md` says: `total`, `checked`, `reason` and `entries`."""

    dataset: DiagnosedDatasetOut
    model: str
    version: int
    created_at: datetime
    images: int
    classes: int
    warnings: list[str] = Field(description="What a reader must know.")
    few_images: dict[str, int] = Field(description="Classes with too few images to judge their labels by.")
    wrong_labels: dict[str, Any]
    outliers: dict[str, Any]
    near_duplicates: dict[str, Any]
    without_influence: dict[str, Any]
    overlapping_classes: dict[str, Any]


class Listing(BaseModel, Generic[Item]):
    model_config = ConfigDict(from_attributes=True)

    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class WorkerOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    worker: str = Field(description="Its kind and a part of its name; the whole one is in logs and jobs.")
    queues: list[str]
    device: str
    providers: list[str]
    slots: int = Field(description="Messages that it works on at once.")
    models: list[str]
    started_at: float = Field(description="Seconds since 1970.")


class PartOut(BaseModel):
    ok: bool
    reason: str | None = Field(None, description="In which way it is not.")


class TransitServerOut(BaseModel):
    server: int = Field(description="Its place in `FOVEA_TRANSIT_URL`, from 1.")
    ok: bool


class TransitOut(PartOut):
    servers: list[TransitServerOut] | None = Field(None, description="Each, where there are several.")


class Readiness(BaseModel):
    status: Literal["ready", "starting"]
    missing: list[str] = Field(
        description="Of `database`, `broker`, `transit`, `inference`, `training`: what is not there."
    )
    database: PartOut
    broker: PartOut
    transit: TransitOut
    workers: list[WorkerOut]


def _described(text: str) -> str:
    if fault := description_fault(text):
        raise ValueError(fault)
    return text


_Description = Annotated[str, Field(max_length=LONGEST_DESCRIPTION), AfterValidator(_described)] | None


class ModelPatch(BaseModel):
    """A JSON merge patch (RFC 7396): a field that is left out stays as it is, null removes it, and a list replaces
    the one before as a whole."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"description": "Ants and bees of our garden.", "tags": ["team:bugs"]}},
    )

    description: _Description = Field(None, description="For people; breaks of lines are kept.")
    tags: list[Annotated[str, Field(pattern=f"^{TAG}$")]] | None = Field(
        None, max_length=MOST_TAGS, description="To search by, `GET /v1/models?tag=`; in order, each once."
    )


Event = Literal["job.succeeded", "job.failed", "job.cancelled"]
_Events = Annotated[list[Event], Field(max_length=3, description="Which ends of a job are told; empty: all.")]
_Kinds = Annotated[
    list[JobKind], Field(max_length=len(JobKind), description="Of which kinds of jobs; empty: of all.")
]


class WebhookRequest(BaseModel):
    """Have the address told when jobs end."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"url": "https://hooks.example.org/fovea", "events": ["job.failed"]}},
    )

    url: HttpUrl = Field(description="`https`, of a public address unless `FOVEA_WEBHOOK_ALLOW` names it.")
    events: _Events = []
    kinds: _Kinds = []
    description: _Description = Field(None, description="For people.")


class WebhookPatch(BaseModel):
    """A JSON merge patch (RFC 7396): a field that is left out stays as it is, null is as when it was made."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    events: _Events | None = None
    kinds: _Kinds | None = None
    description: _Description = Field(None, description="For people.")
    enabled: bool | None = Field(None, strict=True, description="Enabled again, it is sent what has waited.")


class WebhookOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    url: str
    events: list[str]
    kinds: list[str]
    description: str | None
    created_at: datetime
    disabled_at: datetime | None = Field(description="Since when it is sent nothing.")
    disabled_reason: str | None = Field(description="Null where that was by PATCH.")
    pending: int = Field(description="How many messages wait to be delivered.")


class WebhookMade(WebhookOut):
    secret: str = Field(description="`whsec_...`, shown once: what the receiver verifies messages with.")


class WebhookTested(BaseModel):
    delivered: bool = Field(description="Whether it answered with a 2xx.")
    status: int | None = Field(description="Its answer's; null where none came.")
    detail: str | None = Field(description="What was wrong.")
    seconds: float


class DeliveryOut(BaseModel):
    """`id` is the message's `webhook-id`, the same at each attempt."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    event: str
    job_id: str
    payload: dict[str, Any]
    state: Literal["pending", "delivered", "given_up"]
    attempts: int
    status: int | None = Field(description="The last answer's; null where none came.")
    error: str | None = Field(description="What was wrong with the last attempt.")
    created_at: datetime
    next_at: datetime | None = Field(description="When it is tried next.")
    ended_at: datetime | None


class AliasRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"version": 2}})

    version: int = Field(ge=1)


class RollbackRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"from": 2}})

    present: int | None = Field(
        None,
        alias="from",
        ge=1,
        description="The version that the alias is at; at another one nothing is done (409). With it a request "
        "that is sent again does not go back twice.",
    )


class AliasMoveOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: int
    at: datetime | None = Field(description="Null where an earlier release set it, which kept no time.")
    rolled_back_at: datetime | None


class AliasOut(BaseModel):
    model: str
    alias: str
    version: int
    previous: int | None = Field(description="The version that a rollback goes to; null where there is none.")
    history: list[AliasMoveOut] = Field(description="Each time it was set, newest first, at most 100.")


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    state: Literal["checking", "ready", "refused"]
    labels: list[str]
    content_hash: str | None
    size_bytes: int = Field(description="What its files take; of a revision those that it does not share.")
    created_at: datetime
    parent: str | None = Field(description="The dataset that it is a revision of, which may be deleted.")
    revision: int = Field(description="Its number in the line: 1 of what was uploaded.")


class DatasetDetail(DatasetOut):
    counts: dict[str, Any] = Field(description="Images by label and split.")


class DatasetAccepted(DatasetOut):
    job: JobOut = Field(description="The job that checks it.")


class CancelRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    on_cancel: Literal["discard", "keep_best"] | None = Field(
        None,
        description="What becomes of what there is; null: what an earlier cancellation said, else `discard`.",
    )


_BINARY = {"schema": {"type": "string", "format": "binary"}}


def content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a call that answers with bytes or text of these types."""
    return {200: {"description": "The content.", "content": dict.fromkeys(media_types, _BINARY)}}


CLASSIFY_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": JobAccepted, "description": "With `Prefer: respond-async`: the job that classifies them."},
    400: {"description": "Not an image, or a malformed body."},
    404: {"description": "Unknown model or version."},
    413: {"description": "Too large, or too many images."},
    415: {"description": "Another content type than those taken."},
    504: {"description": "The deadline passed."},
}
EXPLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: told for status, told in CLASSIFY_RESPONSES.items() if status != 202},
    200: {
        "content": {"image/png": _BINARY},
        "description": "Maps as JSON; one image's as a picture by `Accept`.",
    },
    406: {"description": "None of the forms is one that `Accept` takes, or several images are to be one picture."},
}
UPLOAD_RESPONSES: dict[int | str, dict[str, Any]] = {
    415: {"description": "The bytes are no archive that is taken."},
    507: {"description": "The upload would fill the disk."},
}
MODEL_FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    415: {"description": "The body is neither JSON nor a form, or the form's file is no model."},
    507: {"description": "The upload would fill the disk."},
}
_OPTIONS = UploadOptions.model_json_schema(ref_template="#/components/schemas/{model}")
MODEL_FILE_SCHEMAS: dict[str, Any] = {**_OPTIONS.pop("$defs"), "UploadOptions": _OPTIONS}
# Beside the JSON that the call takes.
MODEL_FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "An ONNX file, or a checkpoint: `.safetensors`, or `.pth` of tensors "
                            "alone.",
                        },
                        "options": {"$ref": "#/components/schemas/UploadOptions"},
                        "labels": {"type": "string", "description": "Instead of the option: a label a line."},
                    },
                    "required": ["file"],
                },
                "encoding": {"options": {"contentType": "application/json"}},
            }
        }
    }
}
RESULT_LINE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": ["string", "null"]},
        "classes": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "label": {"type": "string"},
                    "probability": {"type": "number"},
                },
                "required": ["index", "label", "probability"],
            },
        },
        "error": {
            "type": ["object", "null"],
            "properties": {"code": {"type": "string"}, "detail": {"type": "string"}},
            "required": ["code", "detail"],
        },
    },
    "required": ["path", "classes", "error"],
}
_NULLABLE_TEXT = {"type": ["string", "null"]}
_NULLABLE_NUMBER = {"type": ["number", "null"]}
EVALUATION_LINE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "label": {"type": "string"},
        "answers": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "label": _NULLABLE_TEXT,
                    "probability": _NULLABLE_NUMBER,
                    "of_label": _NULLABLE_NUMBER,
                    "error": RESULT_LINE["properties"]["error"],
                },
                "required": ["label", "probability", "of_label", "error"],
            },
        },
    },
    "required": ["path", "label", "answers"],
}
_LINES = {"itemSchema": {"oneOf": [RESULT_LINE, EVALUATION_LINE]}}
RESULTS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A line for each image, in the order of their paths.",
        "content": {
            "application/jsonl": _LINES,
            "application/x-ndjson": _LINES,
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    404: {"description": "No such job, or one that has no lines of results."},
    406: {"description": "None of the forms is one that `Accept` takes."},
    409: {"description": "The job has not ended, or did not succeed, and `partial` was not asked for."},
}
ARCHIVE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": _BINARY, "application/x-tar": _BINARY, "application/gzip": _BINARY},
    }
}
_REVISION = RevisionOptions.model_json_schema(ref_template="#/components/schemas/{model}")
REVISION_SCHEMAS: dict[str, Any] = {**_REVISION.pop("$defs"), "RevisionOptions": _REVISION}
REVISION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/RevisionOptions"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "changes": {"$ref": "#/components/schemas/RevisionOptions"},
                        "archive": {
                            "type": "string",
                            "format": "binary",
                            "description": "Images to add: a zip, tar or tar.gz, as an upload's.",
                        },
                    },
                },
                "encoding": {"changes": {"contentType": "application/json"}},
            },
        },
    }
}
REVISION_RESPONSES: dict[int | str, dict[str, Any]] = {
    415: {"description": "The body is neither JSON nor a form, or the archive is none."},
    507: {"description": "The upload would fill the disk."},
}
CLASSIFY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(MEDIA_TYPES, _BINARY),
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["file"],
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "byte"}}
                    },
                    "required": ["images"],
                },
                "example": {
                    "images": [
                        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
                    ]
                },
            },
        },
    }
}


def merge_patch(patch: type[BaseModel]) -> dict[str, Any]:
    """The body of a call that takes a JSON merge patch, under its own content type and under JSON's."""
    schema = {"schema": {"$ref": f"#/components/schemas/{patch.__name__}"}}
    types = ("application/merge-patch+json", "application/json")
    return {"requestBody": {"required": True, "content": {name: dict(schema) for name in types}}}
