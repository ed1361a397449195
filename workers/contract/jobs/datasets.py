"""Jobs that make a dataset: of an archive, or of another dataset with changes."""

from typing import Literal

from pydantic import (
    Field,
)

from workers.contract.jobs.base import JobRequest, JobResult


class IngestRequest(JobRequest):
    """Make a dataset of an uploaded archive."""

    dataset: str = Field(description="The id that the dataset has already.")
    upload: str = Field(description="The key of the archive's blob.")
    name: str = ""
    on_fault: Literal["skip", "refuse"] = "skip"
    labels: Literal["folders", "none"] = "folders"


class ReviseRequest(JobRequest):
    """Make a dataset of another one with changes, and with the images of an archive added."""

    dataset: str = Field(description="The id that the revision has already.")
    parent: str = Field(description="The dataset that is revised.")
    changes: str = Field(description="The key of the blob that has the `RevisionOptions`.")
    upload: str = Field("", description="The key of the archive's blob; empty where nothing is added.")
    name: str = ""
    on_fault: Literal["skip", "refuse"] = "skip"


class IngestResult(JobResult):
    """`dataset` is the one to use: another than was asked for where its content was known already."""

    dataset: str
    images: int = Field(description="How many can be used.")
    faults: dict[str, int] = Field(default_factory=dict, description="How many files have each fault.")
    duplicate_of: str | None = Field(None, description="The dataset that had the same content already.")


class ReviseResult(IngestResult):
    """Of the revision, and how many images were changed in which way."""

    parent: str
    relabelled: int = 0
    removed: int = 0
    moved: int = 0
    added: int = 0
