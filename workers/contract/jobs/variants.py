"""A `variants` job: faster forms of a version are tried."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from models.validation import BRANCH
from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.jobs.choices import named_or

Variant = Literal["int8", "fp16"]
VariantsChoice = Annotated[
    Annotated[Literal["auto"], Tag(f"{BRANCH}auto")]
    | Annotated[tuple[Variant, ...], Field(min_length=1), Tag(f"{BRANCH}list")],
    Discriminator(
        named_or("list", "auto"),
        custom_error_type="precisions",
        custom_error_message="Input should be 'auto' or a list of 'int8' and 'fp16'",
    ),
]


class VariantsOptions(BaseModel):
    """Faster forms of a version, each kept only where it is as good and really faster."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"dataset": "builtin:digits", "precisions": ["int8"]}},
    )

    dataset: str = Field(
        min_length=1,
        description="A dataset's id, or `builtin:digits`. A few of its images calibrate, others judge; those "
        "count whose labels the version has.",
    )
    precisions: VariantsChoice = Field(
        "auto", description="`auto`: `int8`, and `fp16` where the training worker has a GPU."
    )


class VariantsRequest(VariantsOptions, JobRequest):
    """`VariantsOptions` with the version that the call names."""

    model: str
    version: int


class VariantsResult(JobResult):
    """The report of each precision that was tried; those that `passed` are served from now on."""

    model: str
    version: int
    variants: dict[str, dict[str, Any]]
    calibrated_on: int = Field(description="How many images.")
    judged_on: int = Field(description="How many images, none of which calibrated or, as far as known, trained.")
    left_out: int = Field(0, description="How many images have labels that the version does not have.")
    left_out_labels: tuple[str, ...] = Field((), description="Those labels, the first 20.")
    seconds: dict[str, float]
