"""How what is classified differs from what was validated."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ComparedOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str = Field(
        description="`probability` (of a class), `top_probability`, `entropy` of all probabilities, `embedding`."
    )
    label: str | None = Field(description="The class whose probability it is.")
    distance: float = Field(
        description="The greatest difference of both distributions, 0 to 1; of the embedding that of the means, "
        "in spreads of the validation images."
    )
    p_value: float = Field(description="How probable so large a distance is where nothing differs.")
    adjusted_p_value: float = Field(description="The same for all comparisons together (Bonferroni).")
    drifted: bool = Field(description="Whether it is beyond chance and large enough to matter.")
    text: str = Field(description="What differs, in words; empty where nothing is said to.")


class DriftOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    model: str
    version: int
    window: Literal["hour", "day", "all"]
    state: Literal["off", "no_reference", "too_few", "none", "drift"]
    conclusion: str = Field(description="For people.")
    images: int = Field(description="Answered within the window.")
    reference_images: int | None = Field(description="The validation images that they are compared with.")
    since: datetime | None = Field(description="When the first hour began of which there is a sketch.")
    until: datetime | None
    quantities: list[ComparedOut] = Field(description="Empty unless the state is `none` or `drift`.")
    embedding: ComparedOut | None = Field(description="null where the network has no embedding, too.")
    level: float = Field(description="What an adjusted p-value has to be below for a drift.")
    least_distance: float = Field(description="What a quantity's distance has to be at least.")
    least_shift: float = Field(description="What the embedding's distance has to be at least.")
    fewest_images: int = Field(description="Images without which nothing is said.")
