"""`/classify`: what it takes and answers."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.formats import MEDIA_TYPES
from service.schemas.content import BINARY
from service.schemas.jobs import JobAccepted


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


CLASSIFY_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": JobAccepted, "description": "With `Prefer: respond-async`: the job that classifies them."},
    400: {"description": "Not an image, or a malformed body."},
    404: {"description": "Unknown model or version."},
    413: {"description": "Too large, or too many images."},
    415: {"description": "Another content type than those taken."},
    504: {"description": "The deadline passed."},
}
CLASSIFY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(MEDIA_TYPES, BINARY),
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
