"""Preprocessing as a user writes it beside a model file, and as metadata has it: any field or none."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.spec import Fit, Interpolation

# A side of 4,096 is 50 MB of pixels for each image, before the network has begun.
LARGEST_SIDE = 4096
Colours = Annotated[tuple[float, float, float], Field(strict=False)]


class PreprocessingFields(BaseModel):
    """From a picture to the network's input: `(pixel / 255 - mean) / std` of what was resized and cut out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    height: int | None = Field(
        None, ge=1, le=LARGEST_SIDE, description="What the network takes; the file's own where it says so."
    )
    width: int | None = Field(None, ge=1, le=LARGEST_SIDE, description="As `height`.")
    resize: int | None = Field(
        None,
        ge=1,
        le=2 * LARGEST_SIDE,
        description="The shorter side before the middle is cut out; 8/7 of the larger side where left out.",
    )
    fit: Fit | None = Field(None, description="`crop` (the middle), or `squash` (the whole picture).")
    interpolation: Interpolation | None = Field(None, description="`bilinear` where left out.")
    mean: Colours | None = Field(None, description="Of red, green and blue, of pixels from 0 to 1.")
    std: Colours | None = Field(None, description="The standard deviations of the same.")
