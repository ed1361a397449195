"""How to train: one frozen, validated object, and the presets it starts from. Knows no torch.

Every field has its range and its meaning here and nowhere else: requests are held to them, and OpenAPI and
`docs/teach.md` show them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from models.training.errors import InvalidRecipe
from models.validation import BRANCH, invalid_fields

PresetName = Literal["default", "alexnet-2012", "digits"]


def whole(value: object) -> object:
    """JSON knows no whole numbers: 10.0 is 10 for many a client."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Augmentation(BaseModel):
    """How a training image may differ from the stored one. Lengths are fractions of the image, angles degrees."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    crop: Literal["resized", "random", "centre"] = Field(
        "resized",
        description="`resized` cuts an area of at least `min_area` and scales it (Szegedy et al. 2014), `random` "
        "cuts the input's size anywhere (Krizhevsky et al. 2012), `centre` takes what serving would take.",
    )
    min_area: float = Field(0.35, ge=0.05, le=1, description="Smallest share of the image that `resized` cuts.")
    mirror: bool = Field(True, description="Flip left and right half of the time (RandomHorizontalFlip).")
    rotation: float = Field(0.0, ge=0, le=180, description="Most degrees to either side.")
    translation: float = Field(0.0, ge=0, le=0.5, description="Farthest shift in each direction.")
    stretch: float = Field(
        0.0, ge=0, le=0.5, description="Resizes by 1 minus to 1 plus this (RandomAffine's scale)."
    )
    shear: float = Field(0.0, ge=0, le=45, description="Most degrees in each direction.")
    colour_pca: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Standard deviation of shifts along the principal colours of the training images "
        "(Krizhevsky et al. 2012).",
    )
    brightness: float = Field(0.2, ge=0, le=1, description="Multiplies by 1 minus to 1 plus this (ColorJitter).")
    contrast: float = Field(0.2, ge=0, le=1, description="Multiplies by 1 minus to 1 plus this (ColorJitter).")
    saturation: float = Field(0.2, ge=0, le=1, description="Multiplies by 1 minus to 1 plus this (ColorJitter).")
    hue: float = Field(0.0, ge=0, le=0.5, description="Farthest turn of the colour circle.")
    erasing: float = Field(
        0.0, ge=0, le=1, description="Probability of a grey rectangle (RandomErasing; Zhong et al. 2017)."
    )
    mixup: float = Field(0.0, ge=0, le=10, description="Alpha of mixup (Zhang et al. 2017); 0: off.")
    cutmix: float = Field(0.0, ge=0, le=10, description="Alpha of CutMix (Yun et al. 2019); 0: off.")


class Recipe(BaseModel):
    """How to train. The defaults are those of the preset `default`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    epochs: int = Field(30, ge=1, le=1000, description="The most that are run.")
    batch_size: int = Field(32, ge=1, le=4096, description="Images in one step of the optimizer.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="`sgd` is with momentum.")
    learning_rate: float = Field(1e-3, ge=1e-7, le=10, description="Learning rate of the head.")
    backbone_rate: float = Field(
        0.1, ge=0, le=1, description="The pretrained layers' learning rate as a share of the head's."
    )
    momentum: float = Field(0.9, ge=0, le=0.999, description="Momentum of `sgd`.")
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="Decoupled weight decay; biases and normalisation layers have none."
    )
    schedule: Literal["cosine", "step", "plateau", "constant"] = Field(
        "cosine",
        description="The learning rate over time; `plateau` drops it when the validation accuracy stalls.",
    )
    schedule_epochs: int = Field(
        10,
        ge=1,
        le=1000,
        description="Epochs between drops of `step`; without improvement before one of `plateau`.",
    )
    schedule_factor: float = Field(
        0.1, ge=0.001, le=0.999, description="What a drop multiplies the learning rate by."
    )
    warmup_epochs: float = Field(1.0, ge=0, le=50, description="How long the learning rate rises from zero.")
    dropout: float | None = Field(
        None, ge=0, le=0.95, description="Replaces the architecture's own; null: keeps it."
    )
    label_smoothing: float = Field(
        0.05, ge=0, le=0.5, description="Share of the truth spread over all classes (Szegedy et al. 2015)."
    )
    class_balance: Literal["none", "weights", "sampler"] = Field(
        "none", description="Makes up for classes of unequal size: in the loss, or in how often images are drawn."
    )
    batch_norm: Literal["auto", "frozen", "trained"] = Field(
        "auto",
        description="`frozen` keeps the running statistics that training starts from; `auto` does so with "
        "pretrained weights.",
    )
    mixed_precision: Literal["auto", "off"] = Field("auto", description="Where the device is faster with it.")
    clip_norm: float | None = Field(1.0, ge=1e-3, le=1e6, description="Largest norm of the gradient; null: any.")
    patience: int | None = Field(
        8, ge=1, le=1000, description="Epochs without improvement that end the training; null: none do."
    )
    head: Literal["auto", "regression", "gradient"] = Field(
        "auto",
        description="How a head on a frozen backbone is fitted: `regression` is the exact L2-regularised optimum, "
        "its penalty found by cross-validation on the training images; `gradient` is the optimizer on cached "
        "features; `auto` takes the regression while it is affordable.",
    )
    head_views: int = Field(
        4,
        ge=0,
        le=32,
        description="Augmented views of each image beside the plain one, for a head on a frozen backbone.",
    )
    augmentation: Augmentation = Field(Augmentation(), description="How training images vary.")

    @field_validator("epochs", "batch_size", "schedule_epochs", "patience", "head_views", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        return whole(value)


class RecipeOverrides(Recipe):
    """Single fields that replace those of a preset; what is not given stays as the preset has it."""

    preset: PresetName = Field("default", description="The preset that the other fields override.")

    def applied(self) -> Recipe:
        """The preset with the given fields in their place."""
        base = PRESETS[self.preset]
        given = {name: getattr(self, name) for name in self.model_fields_set - {"preset", "augmentation"}}
        augmented = {name: getattr(self.augmentation, name) for name in self.augmentation.model_fields_set}
        augmentation = base.augmentation.model_copy(update=augmented)
        return base.model_copy(update={**given, "augmentation": augmentation})


# Krizhevsky, Sutskever and Hinton 2012, sections 4 and 5. Their rate was divided by ten three times, by hand,
# whenever the validation error stopped improving.
ALEXNET_2012 = Recipe(
    epochs=90,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.01,
    backbone_rate=1.0,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="plateau",
    schedule_epochs=5,
    schedule_factor=0.1,
    warmup_epochs=0.0,
    dropout=0.5,
    label_smoothing=0.0,
    batch_norm="trained",
    mixed_precision="off",
    clip_norm=None,
    patience=None,
    head="gradient",
    augmentation=Augmentation(
        crop="random", mirror=True, colour_pca=0.1, brightness=0.0, contrast=0.0, saturation=0.0
    ),
)

# What a digit needs that differs from a photograph: no mirroring, no colours, slanted writing.
DIGITS = Recipe(
    epochs=20,
    batch_size=32,
    learning_rate=3e-3,
    label_smoothing=0.05,
    patience=None,
    augmentation=Augmentation(
        crop="centre",
        mirror=False,
        rotation=10.0,
        translation=0.08,
        stretch=0.1,
        shear=5.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
    ),
)

DEFAULT = Recipe()
PRESETS: Mapping[PresetName, Recipe] = {"default": DEFAULT, "alexnet-2012": ALEXNET_2012, "digits": DIGITS}


def _branch(value: object) -> str:
    return f"{BRANCH}name" if isinstance(value, str) else f"{BRANCH}object"


# A recipe as a request gives it.
RecipeChoice = Annotated[
    Annotated[PresetName, Tag(f"{BRANCH}name")] | Annotated[RecipeOverrides, Tag(f"{BRANCH}object")],
    Discriminator(_branch),
]

_CHOICE: TypeAdapter[PresetName | RecipeOverrides] = TypeAdapter(RecipeChoice)


def resolve_recipe(choice: PresetName | RecipeOverrides) -> Recipe:
    """The whole recipe that a request asks for."""
    return choice.applied() if isinstance(choice, RecipeOverrides) else PRESETS[choice]


def read_recipe(value: Any) -> Recipe:
    """A recipe from JSON: a preset's name, or an object that overrides single fields of one.

    `{"preset": "alexnet-2012", "epochs": 10}` starts from that preset, without `preset` from `default`. Raises
    InvalidRecipe, which names every wrong field.
    """
    try:
        return resolve_recipe(_CHOICE.validate_python(value))
    except ValidationError as error:
        raise InvalidRecipe(str(invalid_fields(error.errors(), RecipeOverrides, "recipe"))) from error
