"""Webhooks and their deliveries: what is asked and answered."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from service.schemas.description import Description
from workers.contract.queues import JobKind

Event = Literal["job.succeeded", "job.failed", "job.cancelled"]
_Events = Annotated[list[Event], Field(max_length=3, description="Which ends of a job are told; empty: all.")]
_Kinds = Annotated[
    list[JobKind], Field(max_length=len(JobKind), description="Of which kinds of jobs; empty: of all.")
]


class WebhookRequest(BaseModel):
    """Have the address told when jobs end."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"url": "https://hooks.example.org/fovea", "events": ["job.failed"]}},
    )

    url: HttpUrl = Field(description="`https`, of a public address unless `FOVEA_WEBHOOK_ALLOW` names it.")
    events: _Events = []
    kinds: _Kinds = []
    description: Description = Field(None, description="For people.")


class WebhookPatch(BaseModel):
    """A JSON merge patch (RFC 7396): a field that is left out stays as it is, null is as when it was made."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    events: _Events | None = None
    kinds: _Kinds | None = None
    description: Description = Field(None, description="For people.")
    enabled: bool | None = Field(None, strict=True, description="Enabled again, it is sent what has waited.")


class WebhookOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    url: str
    events: list[str]
    kinds: list[str]
    description: str | None
    created_at: datetime
    disabled_at: datetime | None = Field(description="Since when it is sent nothing.")
    disabled_reason: str | None = Field(description="Null where that was by PATCH.")
    pending: int = Field(description="How many messages wait to be delivered.")


class WebhookMade(WebhookOut):
    secret: str = Field(description="`whsec_...`, shown once: what the receiver verifies messages with.")


class WebhookTested(BaseModel):
    delivered: bool = Field(description="Whether it answered with a 2xx.")
    status: int | None = Field(description="Its answer's; null where none came.")
    detail: str | None = Field(description="What was wrong.")
    seconds: float


class DeliveryOut(BaseModel):
    """`id` is the message's `webhook-id`, the same at each attempt."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    event: str
    job_id: str
    payload: dict[str, Any]
    state: Literal["pending", "delivered", "given_up"]
    attempts: int
    status: int | None = Field(description="The last answer's; null where none came.")
    error: str | None = Field(description="What was wrong with the last attempt.")
    created_at: datetime
    next_at: datetime | None = Field(description="When it is tried next.")
    ended_at: datetime | None
