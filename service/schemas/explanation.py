"""`/explain`: what it answers."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.classification import CLASSIFY_RESPONSES, ClassOut, ErrorOut, Timings
from service.schemas.content import BINARY


class ImageSize(BaseModel):
    """Of the image as it is looked at, turned upright by its EXIF orientation."""

    width: int
    height: int


class BoxOut(BaseModel):
    """In pixels of the upright image."""

    left: float
    top: float
    right: float
    bottom: float


class MapOut(BaseModel):
    rows: list[list[float]] = Field(description="Values from 0 to 1 over the region, from its top left.")
    low: float = Field(description="What 0 stands for, in the unit.")
    high: float = Field(description="What 1 stands for.")
    unit: Literal["logit", "probability", "log-probability"]


class ExplainedOut(BaseModel):
    """Of an image that failed all but `name` and `error` are null."""

    model_config = ConfigDict(populate_by_name=True)

    name: str | None = Field(description="The file's name, where the client gave one.")
    explained: ClassOut | None = Field(alias="class", description="The class that the map is of.")
    method: Literal["cam", "recipro-cam", "occlusion"] | None
    map: MapOut | None
    image: ImageSize | None
    region: BoxOut | None = Field(description="What the network saw of the image; the map covers it.")
    box: BoxOut | None = Field(description="The map's strongest part: its maximum and what joins it.")
    overlay: str | None = Field(description="With `overlay=true`: the map drawn over the image, a PNG in base64.")
    error: ErrorOut | None


class ExplanationOut(BaseModel):
    model: str
    version: int
    provider: str | None = Field(description="The execution provider that really ran.")
    precision: str | None = Field(description="What the network was computed in; the head always in `float32`.")
    predictions: list[ExplainedOut] = Field(description="One for each image, in the order sent.")
    timings: Timings


EXPLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: told for status, told in CLASSIFY_RESPONSES.items() if status != 202},
    200: {
        "content": {"image/png": BINARY},
        "description": "Maps as JSON; one image's as a picture by `Accept`.",
    },
    406: {"description": "None of the forms is one that `Accept` takes, or several images are to be one picture."},
}
