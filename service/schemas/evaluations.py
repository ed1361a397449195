"""Evaluations: how good versions are on a dataset."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field


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
