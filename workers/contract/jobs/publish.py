"""A `publish` job: weights or a model file become a version."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.jobs.choices import WeightsName
from workers.contract.jobs.model_file import UploadedFile


class PublishOptions(BaseModel):
    """Zoo weights to a served version."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"architecture": "resnet18", "weights": "imagenet", "promote": "always"}},
    )

    architecture: str = Field(min_length=1, description="A name from /v1/architectures.")
    weights: WeightsName = Field("imagenet", description="`imagenet`, or the id of other weights.")
    architecture_params: dict[str, Any] = Field(default_factory=dict)
    promote: Literal["never", "if_better", "always"] = Field(
        "always", description="Whether `production` moves to it; `if_better`: if there is none yet."
    )


class PublishRequest(PublishOptions, JobRequest):
    """`PublishOptions` with the model that the call names; of a file, `upload` instead of weights."""

    model: str
    upload: UploadedFile | None = None


class PublishResult(JobResult):
    """The new version; `metrics.published` are the publisher's figures, not measured here."""

    model: str
    version: int
    metrics: dict[str, Any]
    promoted: bool
    seconds: dict[str, float]
