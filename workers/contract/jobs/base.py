"""What the requests and the results of jobs have in common."""

from pydantic import (
    BaseModel,
    ConfigDict,
)


class JobRequest(BaseModel):
    """Base of the requests. Unknown fields of a client's are rejected; `read_request` ignores those of a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobResult(BaseModel):
    """Base of the results."""

    model_config = ConfigDict(frozen=True, extra="ignore")
