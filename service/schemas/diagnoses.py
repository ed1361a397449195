"""Diagnoses: what is wrong with a dataset's images."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


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
