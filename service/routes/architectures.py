"""`/v1/architectures`: the zoo, from the catalogue. What an architecture is made of is not computed here."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from models.zoo.catalogue import describe, list_architectures
from service.auth import requires
from storage.errors import InvalidCursor

router = APIRouter(
    prefix="/v1/architectures", tags=["architectures"], dependencies=[Depends(requires("classify"))]
)


class PaperOut(BaseModel):
    title: str
    year: int
    url: str


class InputOut(BaseModel):
    """Height and width in pixels."""

    model_config = ConfigDict(extra="allow")

    size: int = Field(description="The paper's, or the weights' own.")
    fixed: bool = Field(description="Whether the network takes no other size.")


class ArchitectureOut(BaseModel):
    """One architecture; with `layers` where it is asked for by name."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "name": "resnet18",
                "family": "ResNet",
                "source": "torchvision",
                "year": 2015,
                "input": {"size": 224, "fixed": False},
                "totals": {"parameters": 11689512, "multiply_adds": 1814073344},
                "weights": [{"name": "imagenet1k_v1", "default": True}],
            }
        },
    )

    name: str
    family: str
    source: str = Field(description="ours, torchvision or timm.")
    year: int | None
    paper: PaperOut | None
    input: InputOut
    totals: dict[str, Any] = Field(description="Parameters, multiply-adds and bytes at the input size.")
    weights: list[dict[str, Any]]


class ArchitecturePage(BaseModel):
    items: list[ArchitectureOut]
    next_cursor: str | None


@router.get("", summary="The zoo, oldest first")
def list_all(
    search: Annotated[
        str | None, Query(max_length=200, description="Words of name, family, year or paper.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> ArchitecturePage:
    entries = list_architectures(search)
    start = _start(entries, cursor)
    items = [ArchitectureOut(**entry) for entry in entries[start : start + limit]]
    more = start + limit < len(entries)
    return ArchitecturePage(items=items, next_cursor=items[-1].name if more else None)


@router.get("/{name:path}", summary="One architecture with its weights and layer table")
def show(name: str) -> ArchitectureOut:
    """`layers` is null where the table is not kept; `fovea architectures show NAME` computes any of them."""
    return ArchitectureOut(**describe(name))


def _start(entries: list[dict[str, Any]], cursor: str | None) -> int:
    """The place behind the architecture that the cursor names: the last one of the page before."""
    if cursor is None:
        return 0
    for index, entry in enumerate(entries):
        if entry["name"] == cursor:
            return index + 1
    raise InvalidCursor(f"the cursor {cursor!r} does not belong to this list; start again without a cursor")
