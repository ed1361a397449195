"""What calls beside `/classify` answer of images, as pydantic models: what OpenAPI shows."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.classification import CLASSIFY_RESPONSES, ErrorOut, Timings

IMAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: told for status, told in CLASSIFY_RESPONSES.items() if status != 202},
    409: {"description": "The version has nothing of the kind, or not in that precision; `detail` says why."},
}


class ImageAnswers(BaseModel):
    model: str
    version: int
    provider: str | None = Field(description="The execution provider that really ran.")
    precision: str | None = Field(description="What the network was computed in: `float32`, `int8` or `fp16`.")


class EmbeddedImage(BaseModel):
    name: str | None = Field(description="The file's name, where the client gave one.")
    embedding: list[float] | str | None = Field(
        None, description="`dimensions` numbers, or these as float32 in base64; null when this image failed."
    )
    error: ErrorOut | None


class Embeddings(ImageAnswers):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "version": 1,
                "provider": "CPUExecutionProvider",
                "precision": "float32",
                "dimensions": 3,
                "predictions": [{"name": "seven.png", "embedding": [0.0, 1.25, 0.5], "error": None}],
                "timings": {"total_ms": 6.3},
            }
        }
    )

    dimensions: int = Field(description="How many numbers an embedding has.")
    predictions: list[EmbeddedImage] = Field(description="One for each image, in the order sent.")
    timings: Timings


class SimilarImage(BaseModel):
    label: str
    distance: float = Field(description="Of the embeddings: 0 the same direction, 1 nothing in common, to 2.")
    sha256: str = Field(description="Of the image's file.")
    name: str | None = Field(description="The path that it was sent under; null where the dataset is gone.")
    thumbnail: str | None = Field(description="Where a small picture of it is; null where the dataset is gone.")


class SimilarToImage(BaseModel):
    name: str | None = Field(description="The file's name, where the client gave one.")
    similar: list[SimilarImage] | None = Field(None, description="Nearest first; null when this image failed.")
    error: ErrorOut | None


class TaughtDataset(BaseModel):
    id: str | None
    name: str | None = Field(description="What it was called when the version was taught.")
    state: Literal["ready", "deleted", "builtin"] = Field(
        description="`ready`: its images have names and thumbnails. The others have none."
    )


class SimilarImages(ImageAnswers):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "bugs",
                "version": 1,
                "provider": "CPUExecutionProvider",
                "precision": "float32",
                "dataset": {"id": "ds_01K00000000000000000000000", "name": "ants and bees", "state": "ready"},
                "predictions": [
                    {
                        "name": "bee.jpg",
                        "similar": [
                            {
                                "label": "bees",
                                "distance": 0.21,
                                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                                "name": "train/bees/1092977343_cb42b38d62.jpg",
                                "thumbnail": "/v1/datasets/ds_01K00000000000000000000000/thumbnails/"
                                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                            }
                        ],
                        "error": None,
                    }
                ],
                "timings": {"total_ms": 6.3},
            }
        }
    )

    dataset: TaughtDataset = Field(description="What the version was taught.")
    predictions: list[SimilarToImage] = Field(description="One for each image, in the order sent.")
    timings: Timings


class DatasetImageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="The path that it was sent under.")
    sha256: str = Field(description="Of the image's file.")
    label: str
    split: Literal["train", "val", "test"] | None = Field(description="Null where its sender made no splits.")
    width: int
    height: int
    thumbnail: str = Field(description="Where a small picture of it is.")
