"""A page of a list, as JSON."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class Listing(BaseModel, Generic[Item]):
    model_config = ConfigDict(from_attributes=True)

    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")
