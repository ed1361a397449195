"""A model file of one's own: what is said of it."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from models.uploaded.kind import FileKind
from models.uploaded.view import PreprocessingFields
from models.validation import BRANCH
from workers.contract.jobs.choices import named_or

LabelsChoice = Annotated[
    Annotated[Literal["imagenet"], Tag(f"{BRANCH}imagenet")] | Annotated[tuple[str, ...], Tag(f"{BRANCH}list")],
    Discriminator(
        named_or("list", "imagenet"),
        custom_error_type="labels",
        custom_error_message="Input should be a list of names, or 'imagenet'",
    ),
]
PreprocessingChoice = Annotated[
    Annotated[Literal["imagenet"], Tag(f"{BRANCH}imagenet")]
    | Annotated[PreprocessingFields, Tag(f"{BRANCH}object")],
    Discriminator(
        named_or("object", "imagenet"),
        custom_error_type="preprocessing",
        custom_error_message="Input should be an object of fields, or 'imagenet'",
    ),
]


class FileFacts(BaseModel):
    """What a model file needs to be served and may not hold; of an ONNX file of Fovea's own nothing is needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelsChoice | None = Field(
        None,
        description="The classes' names in the order of the outputs, or `imagenet`. Needed where the file's "
        "metadata has none.",
    )
    preprocessing: PreprocessingChoice | None = Field(
        None,
        description="How pictures become the network's input, or `imagenet` for torchvision's usual way. Needed "
        "of an ONNX file whose metadata does not say it; of a checkpoint the architecture's own where left out.",
    )
    output: str | None = Field(
        None, min_length=1, max_length=200, description="The ONNX output that classifies, where there are several."
    )
    values: Literal["logits", "probabilities"] | None = Field(
        None, description="What that output gives; told by the graph's last node, else by its values."
    )
    licence: str | None = Field(None, min_length=1, max_length=200, description="For the card.")
    trained_on: str | None = Field(None, min_length=1, max_length=200, description="For the card.")


class UploadOptions(FileFacts):
    """A model file of one's own to a served version."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "labels": ["cat", "dog"],
                "preprocessing": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
                "promote": "always",
            }
        },
    )

    architecture: str | None = Field(
        None, min_length=1, description="A name from /v1/architectures: needed of a checkpoint, and of that alone."
    )
    architecture_params: dict[str, Any] = Field(
        default_factory=dict, description="What that architecture takes, as in a fine-tune."
    )
    promote: Literal["never", "if_better", "always"] = Field(
        "always", description="Whether `production` moves to it; `if_better`: if there is none yet."
    )


class UploadedFile(FileFacts):
    """A model file among the blobs, under `key`, with what its sender says of it."""

    key: str
    name: str
    kind: FileKind
    sha256: str
    size_bytes: int
