"""A `diagnose` job: a dataset's images are looked at."""

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from workers.contract.jobs.base import JobRequest, JobResult


class DiagnoseOptions(BaseModel):
    """Which version looks at the images of a dataset."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"model": "ants-bees@production"}}
    )

    model: str = Field(
        min_length=1,
        description="A model reference; it stands for the version that it names now. Its classes need not be the "
        "dataset's: only its embedding is used.",
    )


class DiagnoseRequest(JobRequest):
    """`DiagnoseOptions` with the version that its reference named, and the dataset that the call names."""

    model: str
    version: int
    dataset: str


class DiagnoseResult(JobResult):
    """What was found, counted; `/v1/datasets/{id}/diagnosis` names the images."""

    dataset: str
    model: str
    version: int
    images: int
    wrong_labels: int = Field(description="How many labels are probably wrong.")
    outliers: int = Field(description="How many images are like none of their class.")
    near_duplicates: int = Field(description="How many show what another one of their class shows.")
    without_influence: int = Field(description="How many change nothing of what is learnt.")
    overlapping_classes: int = Field(description="How many pairs of classes are not told apart.")
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float]
