"""What is to be changed in a dataset, as clients ask for it and as it lies among the blobs until it is done.

The lists may be as long as datasets are, so that they are no part of the job's row.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field

from models.dataset.changes import Changes
from models.dataset.manifest import tidy_label

MOST_CHANGES = 200_000

_Image = Annotated[
    str, Field(min_length=1, max_length=1024, description="Its sha256, its path, or the end of that.")
]
_Label = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(tidy_label)]


class Relabel(BaseModel):
    """The image is of this class from now on, which may be a new one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: _Image
    label: _Label


class Move(BaseModel):
    """The image is in this split from now on, which the dataset must have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: _Image
    split: Literal["train", "val", "test"]


class RevisionOptions(BaseModel):
    """Changes to a dataset. All of them are made, or none."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "relabel": [{"image": "train/ants/0013035.jpg", "label": "bees"}],
                "remove": ["train/bees/1092977343.jpg"],
            }
        },
    )

    name: str | None = Field(
        None, min_length=1, max_length=200, description="For people; the parent's if left out."
    )
    relabel: Annotated[tuple[Relabel, ...], FailFast(), Field(max_length=MOST_CHANGES)] = ()
    remove: Annotated[tuple[_Image, ...], FailFast(), Field(max_length=MOST_CHANGES)] = ()
    move: Annotated[tuple[Move, ...], FailFast(), Field(max_length=MOST_CHANGES)] = ()
    base_content_hash: str | None = Field(
        None, max_length=64, description="Of the dataset that is meant: with another one nothing is done (409)."
    )
    on_fault: Literal["skip", "refuse"] = Field(
        "skip",
        description="What is done with faulty files among the added: leave them out, or refuse the revision.",
    )

    @property
    def changes(self) -> Changes:
        return Changes(
            tuple((change.image, change.label) for change in self.relabel),
            self.remove,
            tuple((change.image, change.split) for change in self.move),
        )

    @property
    def changes_something(self) -> bool:
        return bool(self.relabel or self.remove or self.move)
