"""A `classify_many` job: the images of a dataset or a folder."""

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from models.artifact import PrecisionChoice
from models.training.recipe import whole
from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.results import CHUNK_IMAGES
from workers.contract.unknown import ON_UNKNOWN, OnUnknown

LONGEST_PREFIX = 1024


class ClassifyManyOptions(BaseModel):
    """Classify a dataset, or a folder of images that the operator put beside it; exactly one of the two."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {"model": "ants-bees@production", "dataset": "ds_01J9Z3NDEKTSV4RRFFQ69G5FAV", "top_k": 1}
        },
    )

    model: str = Field(min_length=1, description="A model reference; it stands for the version that it names now.")
    dataset: str | None = Field(None, min_length=1, description="A dataset's id, with labels or without.")
    prefix: str | None = Field(
        None,
        max_length=LONGEST_PREFIX,
        description="A folder below `images/` of the store of files, such as `2026/november/`; empty for all.",
    )
    top_k: Annotated[int, BeforeValidator(whole)] = Field(
        5, ge=1, le=1000, strict=True, description="Classes to name for each image."
    )
    precision: PrecisionChoice = Field(
        "auto",
        description="`auto`: the fastest that the worker may serve. Or one that the version has.",
    )
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        strict=True,
        description="Also the smallest set of classes that holds the truth with that probability.",
    )
    on_unknown: OnUnknown = Field("mark", description=ON_UNKNOWN)

    @field_validator("prefix")
    @classmethod
    def _names_a_folder(cls, prefix: str | None) -> str | None:
        if not prefix:
            return prefix
        parts = prefix.removesuffix("/").split("/")
        if any(part in ("", ".", "..") for part in parts) or set(prefix) & {"\\", "\0"}:
            raise ValueError("names of folders below images/, with one / between them and none before the first")
        return "/".join(parts)

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.dataset is None) == (self.prefix is None):
            raise ValueError("exactly one of dataset and prefix says which images are classified")
        return self


class ClassifyManyRequest(JobRequest):
    """`ClassifyManyOptions` with the version that its reference named; `chunk` images are in a file of results."""

    model: str
    version: int
    dataset: str | None = None
    prefix: str | None = None
    top_k: int
    precision: str = Field("", description="Empty where the worker chooses.")
    coverage: float | None = Field(None, description="Of the set of classes of each image.")
    chunk: int = Field(CHUNK_IMAGES, ge=1)
    on_unknown: OnUnknown = Field("mark", description=ON_UNKNOWN)


class ClassifyManyResult(JobResult):
    """What was classified; a line for each image is under `/v1/jobs/{id}/results`."""

    model: str
    version: int
    provider: str = Field(description="The execution provider that really ran; empty where no image needed any.")
    precision: str = Field("float32", description="What the network was computed in.")
    images: int = Field(description="How many lines there are.")
    errors: dict[str, int] = Field(default_factory=dict, description="How many of them have each error's code.")
    unknown: int = Field(0, description="How many of the images show none of the classes, refused or not.")
