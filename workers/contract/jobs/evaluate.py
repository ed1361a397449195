"""An `evaluate` job: versions are measured on a dataset."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from models.artifact import PrecisionChoice
from workers.contract.evaluations import EVALUATED_CHUNK_IMAGES
from workers.contract.jobs.base import JobRequest, JobResult

MOST_EVALUATED = 8
SplitChoice = Literal["unseen", "train", "validation", "test", "all"]


class EvaluateOptions(BaseModel):
    """How good versions are on a dataset's labelled images, and whether one is better than another."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "models": ["ants-bees@candidate", "ants-bees@production"],
                "dataset": "ds_01J9Z3NDEKTSV4RRFFQ69G5FAV",
            }
        },
    )

    models: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        min_length=1,
        max_length=MOST_EVALUATED,
        description="Model references; each stands for the version that it names now. Two or more are compared.",
    )
    dataset: str = Field(
        min_length=1,
        description="A dataset's id, or `builtin:digits`. Its labels are those of a version by name.",
    )
    split: SplitChoice = Field(
        "unseen",
        description="Which of its images: `unseen`, those that none of the versions is known to have learnt from; "
        "`train`, `validation` or `test` of a dataset that has these; or `all`.",
    )
    precision: PrecisionChoice = Field(
        "auto",
        description="`auto`: the fastest that the worker may serve, as classifying does. Or one that each version "
        "has.",
    )


class EvaluatedVersion(BaseModel):
    """A version, and the reference that named it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    version: int
    reference: str

    @property
    def name(self) -> str:
        return f"{self.model}:{self.version}"


class EvaluateRequest(JobRequest):
    """`EvaluateOptions` with the versions that its references named; `chunk` images are in a file of answers."""

    models: tuple[EvaluatedVersion, ...]
    dataset: str
    split: SplitChoice = "unseen"
    precision: str = Field("", description="Empty where the worker chooses.")
    chunk: int = Field(EVALUATED_CHUNK_IMAGES, ge=1)


class EvaluatedScore(JobResult):
    """How good one version is, in a few numbers; `/v1/evaluations/{id}` has the others."""

    model: str
    version: int
    reference: str
    precision: str
    provider: str
    images: int = Field(description="How many are behind the numbers: those whose class the version knows.")
    accuracy: float
    accuracy_interval: tuple[float, float] = Field(description="Wilson's, with a confidence of 95 %.")
    top5_accuracy: float | None = Field(description="Null with five classes or fewer.")
    macro_f1: float
    loss: float = Field(description="The mean negative log-likelihood, in nats.")
    brier: float = Field(description="The mean Brier score over all classes, 0 to 2.")
    calibration_error: float
    unknown_images: int = Field(description="How many have a class that the version does not know: not counted.")
    seen_share: float | None = Field(
        description="The share of the images that it is known to have learnt from; null where that is not known."
    )


class ComparedPair(JobResult):
    """Two versions on the images that both can be measured by."""

    first: str
    second: str
    images: int
    only_first: int = Field(description="How many images the first alone gets right.")
    only_second: int
    difference: float | None = Field(description="Accuracy of the first less that of the second; null: no images.")
    difference_interval: tuple[float, float] | None = Field(description="Newcombe's for pairs, at 95 %.")
    p_value: float | None = Field(description="Of McNemar's exact test.")
    adjusted_p_value: float | None = Field(description="After Holm's correction for all pairs.")
    conclusion: str


class EvaluateResult(JobResult):
    """The numbers in short. All of them are under `/v1/evaluations/{id}`, a line for each image under
    `/v1/jobs/{id}/results`."""

    dataset: str
    split: SplitChoice
    images: int = Field(description="How many were measured, of the dataset's or its split.")
    versions: tuple[EvaluatedScore, ...]
    comparisons: tuple[ComparedPair, ...] = ()
    differing_images: int = Field(0, description="On how many of them not all versions gave the same answer.")
    warnings: tuple[str, ...] = ()
