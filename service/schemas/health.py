"""Readiness: what of Fovea is there."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class WorkerOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    worker: str = Field(description="Its kind and a part of its name; the whole one is in logs and jobs.")
    queues: list[str]
    device: str
    providers: list[str]
    slots: int = Field(description="Messages that it works on at once.")
    models: list[str]
    started_at: float = Field(description="Seconds since 1970.")


class PartOut(BaseModel):
    ok: bool
    reason: str | None = Field(None, description="In which way it is not.")


class TransitServerOut(BaseModel):
    server: int = Field(description="Its place in `FOVEA_TRANSIT_URL`, from 1.")
    ok: bool


class TransitOut(PartOut):
    servers: list[TransitServerOut] | None = Field(None, description="Each, where there are several.")


class Readiness(BaseModel):
    status: Literal["ready", "starting"]
    missing: list[str] = Field(
        description="Of `database`, `broker`, `transit`, `inference`, `training`: what is not there."
    )
    database: PartOut
    broker: PartOut
    transit: TransitOut
    workers: list[WorkerOut]
