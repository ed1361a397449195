"""Aliases: where they are, were, and are to go."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class AliasRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"version": 2}})

    version: int = Field(ge=1)


class RollbackRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"from": 2}})

    present: int | None = Field(
        None,
        alias="from",
        ge=1,
        description="The version that the alias is at; at another one nothing is done (409). With it a request "
        "that is sent again does not go back twice.",
    )


class AliasMoveOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: int
    at: datetime | None = Field(description="Null where an earlier release set it, which kept no time.")
    rolled_back_at: datetime | None


class AliasOut(BaseModel):
    model: str
    alias: str
    version: int
    previous: int | None = Field(description="The version that a rollback goes to; null where there is none.")
    history: list[AliasMoveOut] = Field(description="Each time it was set, newest first, at most 100.")
