"""What a training job was asked to do: the JSON of its row, checked. Knows no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.training.recipe import Recipe, read_recipe

PROMOTE = ("never", "if_better", "always")
STRATEGIES = ("auto", "head", "partial", "full")
LARGEST_SEED = 2**31 - 1


class InvalidRequest(Exception):
    """A field of the request is wrong; `field` is its name."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


@dataclass(frozen=True)
class FinetuneRequest:
    """`fraction` is how much of each class validates where the dataset has no validation split of its own."""

    model: str
    dataset: str
    architecture: str
    architecture_params: dict[str, Any]
    weights: str
    strategy: str
    recipe: Recipe
    recipe_name: str
    fraction: float
    seed: int
    promote: str


@dataclass(frozen=True)
class PublishRequest:
    model: str
    architecture: str
    architecture_params: dict[str, Any]
    weights: str
    labels: tuple[str, ...]
    promote: str


def read_finetune(values: Mapping[str, Any], default_recipe: object = "default") -> FinetuneRequest:
    """Raises InvalidRequest and InvalidRecipe, which name the field. `default_recipe` is what "default" means."""
    recipe = values.get("recipe")
    if recipe in (None, "default"):
        recipe = default_recipe
    return FinetuneRequest(
        model=_text(values, "model"),
        dataset=_text(values, "dataset"),
        architecture=_text(values, "architecture"),
        architecture_params=_object(values, "architecture_params"),
        weights=_text(values, "weights", "imagenet"),
        strategy=_one_of(values, "strategy", STRATEGIES, "auto"),
        recipe=read_recipe(recipe),
        recipe_name=recipe if isinstance(recipe, str) else "custom",
        fraction=_fraction(_object(values, "validation")),
        seed=_seed(values),
        promote=_one_of(values, "promote", PROMOTE, "never"),
    )


def read_publish(values: Mapping[str, Any]) -> PublishRequest:
    """Raises InvalidRequest, which names the field."""
    labels = values.get("labels") or ()
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise InvalidRequest("labels", f"got {labels!r}, expected a list of texts")
    return PublishRequest(
        model=_text(values, "model"),
        architecture=_text(values, "architecture"),
        architecture_params=_object(values, "architecture_params"),
        weights=_text(values, "weights", "imagenet"),
        labels=tuple(labels),
        promote=_one_of(values, "promote", PROMOTE, "always"),
    )


def _text(values: Mapping[str, Any], field: str, default: str | None = None) -> str:
    value = values.get(field, default)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(field, f"got {value!r}, expected a text")
    return value


def _object(values: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = values.get(field) or {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(field, f"got {value!r}, expected an object")
    return dict(value)


def _one_of(values: Mapping[str, Any], field: str, known: tuple[str, ...], default: str) -> str:
    value = values.get(field, default)
    if value not in known:
        raise InvalidRequest(field, f"got {value!r}, expected one of {', '.join(known)}")
    return str(value)


def _fraction(validation: Mapping[str, Any]) -> float:
    unknown = sorted(set(validation) - {"fraction"})
    if unknown:
        raise InvalidRequest(f"validation.{unknown[0]}", "there is no such field; the field is fraction")
    value = validation.get("fraction", 0.2)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 0.9:
        raise InvalidRequest("validation.fraction", f"got {value!r}, expected a number from 0.01 to 0.9")
    return float(value)


def _seed(values: Mapping[str, Any]) -> int:
    value = values.get("seed", 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_SEED:
        raise InvalidRequest("seed", f"got {value!r}, expected a whole number from 0 to {LARGEST_SEED}")
    return value
