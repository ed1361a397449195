"""A `classify` job: a few images that were sent."""

from pydantic import (
    Field,
)

from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.messages import ClassScore, UnknownScore
from workers.contract.unknown import ON_UNKNOWN, OnUnknown


class ClassifyRequest(JobRequest):
    """Classify images that lie among the blobs; `names` are the files' names where the client gave any."""

    model: str
    version: int
    top_k: int
    images: tuple[str, ...]
    names: tuple[str | None, ...]
    precision: str = Field("", description="Empty where the worker chooses.")
    coverage: float | None = Field(None, description="Of the set of classes of each image.")
    on_unknown: OnUnknown = Field("mark", description=ON_UNKNOWN)


class PredictionSet(JobResult):
    """The classes that hold the truth with a probability of `coverage`, best first."""

    coverage: float
    classes: tuple[ClassScore, ...]


class ClassifiedImage(JobResult):
    """One image's answer; `classes` is null where `error` is not, `set` where no coverage was asked for."""

    name: str | None
    classes: tuple[ClassScore, ...] | None
    error: dict[str, str | None] | None
    set: PredictionSet | None = None
    unknown: UnknownScore | None = None


class ClassifyResult(JobResult):
    """A prediction for each image in the order sent."""

    model: str
    version: int
    provider: str = Field(description="The execution provider that really ran.")
    precision: str = Field("float32", description="What the network was computed in.")
    predictions: tuple[ClassifiedImage, ...]
