"""Which of a recipe's settings had a part in a training: what somebody needs to make it again, and no more."""

from typing import Any

from models.artifact import Manifest
from models.weights.source import NONE

# A logistic regression is solved: it has no optimiser, no epochs, no batches and no dropout.
OF_A_REGRESSION = ("class_balance", "head_views")
# What a manifest's recipe holds beside its settings, and what is told in another way.
NO_SETTINGS = ("name", "strategy", "strategy_reason", "strategy_asked", "logistic_regression", "augmentation")


def effective_settings(manifest: Manifest) -> dict[str, str]:
    """Names and values of the settings that the version would have been another without."""
    recipe: dict[str, Any] = manifest.recipe or {}
    regression = recipe.get("logistic_regression")
    if regression is not None:
        augmented = bool(regression["augmented"])
        kept = {name: recipe[name] for name in OF_A_REGRESSION if name != "head_views" or augmented}
        settings = {"head": "logistic regression", "l2": f"{regression['l2']:.3g}", **kept}
    else:
        augmented = True
        pretrained = manifest.weights.get("origin") != NONE
        settings = {name: value for name, value in recipe.items() if _had_a_part(name, recipe, pretrained)}
    return {
        "strategy": str(recipe["strategy"]),
        **{name: str(value) for name, value in settings.items()},
        "augmentation": _augmentation(recipe["augmentation"]) if augmented else "none",
    }


def _had_a_part(name: str, recipe: dict[str, Any], pretrained: bool) -> bool:
    match name:
        case "schedule_epochs" | "schedule_factor":
            return recipe["schedule"] in ("step", "plateau")
        case "momentum":
            return bool(recipe["optimizer"] == "sgd")
        case "head" | "head_views":
            return bool(recipe["strategy"] == "head")
        case "backbone_rate":
            return pretrained and recipe["strategy"] != "head"
        case _:
            return name not in NO_SETTINGS and recipe[name] is not None


def _augmentation(values: dict[str, Any]) -> str:
    used = {name: value for name, value in values.items() if value}
    if used.get("crop") != "resized":
        used.pop("min_area", None)
    return ", ".join(f"{name} {value}" for name, value in used.items()) or "none"
