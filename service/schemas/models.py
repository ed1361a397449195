"""Models and their versions, with their variants and filters."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.description import Description
from storage.reference import MOST_TAGS, TAG


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


class ModelPatch(BaseModel):
    """A JSON merge patch (RFC 7396): a field that is left out stays as it is, null removes it, and a list replaces
    the one before as a whole."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"description": "Ants and bees of our garden.", "tags": ["team:bugs"]}},
    )

    description: Description = Field(None, description="For people; breaks of lines are kept.")
    tags: list[Annotated[str, Field(pattern=f"^{TAG}$")]] | None = Field(
        None, max_length=MOST_TAGS, description="To search by, `GET /v1/models?tag=`; in order, each once."
    )
