"""A `finetune` job: a dataset's classes are learnt."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_serializer,
)

from models.dataset.builtin import DIGITS
from models.training.recipe import PresetName, Recipe, RecipeChoice, RecipeOverrides, resolve_recipe, whole
from storage.reference import MODEL_NAME
from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.jobs.choices import WeightsName


class ValidationOptions(BaseModel):
    """How validation images are chosen where the dataset has no split of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    fraction: float = Field(0.2, ge=0.01, le=0.9, description="Share of each class that validates.")


class FinetuneRequest(JobRequest):
    """Learn a dataset's classes; every field but the first three is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "dataset": "builtin:digits",
                "architecture": "lenet5",
                "weights": "none",
                "promote": "always",
            }
        },
    )

    model: str = Field(
        pattern=f"^{MODEL_NAME}$",
        description="The model whose next version this becomes: small letters, digits, `.`, `_`, `-`.",
    )
    dataset: str = Field(min_length=1, description="A dataset's id, or `builtin:digits`.")
    architecture: str = Field(min_length=1, description="A name from `/v1/architectures`.")
    architecture_params: dict[str, Any] = Field(
        default_factory=dict,
        description='What the architecture takes, for instance `{"pattern": "INPUT -> ..."}` of `convnet`.',
    )
    weights: WeightsName = Field(
        "imagenet",
        description="What to start from: `imagenet`, `none`, the id of imported weights, or a model reference.",
    )
    strategy: Literal["auto", "head", "partial", "full"] = Field(
        "auto",
        description="Which layers learn: `head` (the backbone is frozen), `partial` (its last stages too), "
        "`full`; `auto` decides by the images of each class and says why.",
    )
    recipe: RecipeChoice = Field(
        "default", description="A preset, or an object that overrides single fields of one."
    )
    validation: ValidationOptions = Field(
        ValidationOptions(),
        description="How validation images are chosen where the dataset has no split of its own.",
    )
    seed: Annotated[int, BeforeValidator(whole)] = Field(
        0,
        ge=0,
        lt=2**31,
        strict=True,
        description="The same seed gives the same split and, on one kind of machine, the same weights.",
    )
    promote: Literal["never", "if_better", "always"] = Field(
        "never",
        description="Whether `production` moves to the new version; `if_better` compares on the same images.",
    )
    variants: Literal["auto", "none"] = Field(
        "auto",
        description="`auto`: once the version is there, a `variants` job tries faster forms of it.",
    )

    @field_serializer("recipe")
    def _recipe_as_given(self, recipe: str | RecipeOverrides) -> str | dict[str, Any]:
        """The row keeps what was asked for: a preset is what the release that trains knows by its name."""
        return recipe if isinstance(recipe, str) else recipe.model_dump(exclude_unset=True)

    @property
    def preset(self) -> PresetName | None:
        """The recipe's preset; None for overrides. The built-in digits have a default of their own."""
        if isinstance(self.recipe, RecipeOverrides):
            return None
        return "digits" if self.recipe == "default" and self.dataset == DIGITS else self.recipe

    def resolved_recipe(self) -> Recipe:
        """The whole recipe that was asked for. To the built-in digits, `default` is their own there too."""
        if self.preset is not None:
            return resolve_recipe(self.preset)
        if isinstance(self.recipe, RecipeOverrides) and self.dataset == DIGITS and self.recipe.preset == "default":
            return resolve_recipe(self.recipe.model_copy(update={"preset": "digits"}))
        return resolve_recipe(self.recipe)


class PromotionResult(JobResult):
    """Whether `production` moved to the new version and why; `previous` is where it was before."""

    promoted: bool
    reason: str
    previous: int | None = None
    previous_accuracy: float | None = None


class StrategyResult(JobResult):
    """Which layers learnt, and why these."""

    strategy: Literal["head", "partial", "full"]
    reason: str


class FinetuneResult(JobResult):
    """The new version and how good it is; `seconds` are those of each phase, after `starting`."""

    model: str
    version: int
    metrics: dict[str, Any]
    promoted: bool
    promotion: PromotionResult
    strategy: StrategyResult
    stopped: str = Field(description="Why the training ended: `epochs`, `patience`, `solved` or `cancelled`.")
    seconds: dict[str, float]
    variants_job: str | None = Field(
        None,
        description="The job that tries faster variants of the version; null where none was asked for or too few "
        "images validate and test to judge one by.",
    )
