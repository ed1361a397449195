"""The JSON of every error, RFC 9457."""

from pydantic import BaseModel, Field


class ProblemBody(BaseModel):
    """RFC 9457 `application/problem+json`."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; what programs look at.")
    detail: str = Field(description="What was given, what was expected, how to fix it.")
    request_id: str
    errors: list[dict[str, str]] | None = Field(
        None, description="The wrong fields of an `invalid_request`, each with `field` and `message`; 20 at most."
    )
