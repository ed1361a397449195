"""A recipe is read from a request, and whatever is wrong with it is named."""

import pytest
from pydantic import BaseModel, ValidationError

from models.training.errors import InvalidRecipe
from models.training.recipe import (
    ALEXNET_2012,
    DEFAULT,
    PRESETS,
    Augmentation,
    Recipe,
    RecipeOverrides,
    read_recipe,
)


def test_a_name_gives_a_preset() -> None:
    assert read_recipe("default") is DEFAULT
    assert read_recipe("alexnet-2012") is ALEXNET_2012


def test_no_field_overrides_nothing() -> None:
    assert read_recipe({}) == DEFAULT


def test_single_fields_override_a_preset() -> None:
    recipe = read_recipe({"preset": "alexnet-2012", "epochs": 7, "augmentation": {"mirror": False}})
    assert (recipe.epochs, recipe.augmentation.mirror) == (7, False)
    assert recipe.augmentation.colour_pca == 0.1
    assert recipe.batch_size == 128
    assert type(recipe) is Recipe


def test_alexnet_2012_is_as_published() -> None:
    r = ALEXNET_2012
    assert (r.optimizer, r.momentum, r.weight_decay, r.batch_size) == ("sgd", 0.9, 5e-4, 128)
    assert (r.learning_rate, r.schedule, r.schedule_factor, r.dropout) == (0.01, "plateau", 0.1, 0.5)
    assert (r.augmentation.crop, r.augmentation.mirror, r.augmentation.colour_pca) == ("random", True, 0.1)
    assert (r.label_smoothing, r.warmup_epochs, r.clip_norm, r.backbone_rate) == (0.0, 0.0, None, 1.0)


def test_digits_are_not_mirrored() -> None:
    assert not PRESETS["digits"].augmentation.mirror


@pytest.mark.parametrize(
    ("value", "field", "part"),
    [
        ("alexnet", "recipe", "'alexnet-2012'"),
        (7, "recipe", "got 7"),
        (None, "recipe", "got None"),
        ({"preset": "best"}, "recipe.preset", "'best'"),
        ({"learnin_rate": 0.1}, "recipe.learnin_rate", "did you mean learning_rate?"),
        ({"zzz": 0.1}, "recipe.zzz", "the fields are augmentation"),
        ({"epochs": 0}, "recipe.epochs", "greater than or equal to 1"),
        ({"epochs": 1001}, "recipe.epochs", "less than or equal to 1000"),
        ({"epochs": 2.5}, "recipe.epochs", "a valid integer"),
        ({"epochs": True}, "recipe.epochs", "a valid integer"),
        ({"learning_rate": "fast"}, "recipe.learning_rate", "'fast'"),
        ({"learning_rate": float("nan")}, "recipe.learning_rate", "a finite number"),
        ({"optimizer": "adam"}, "recipe.optimizer", "'adamw' or 'sgd'"),
        ({"clip_norm": 0}, "recipe.clip_norm", "0.001"),
        ({"augmentation": "none"}, "recipe.augmentation", "an object"),
        ({"augmentation": {"mirror": 1}}, "recipe.augmentation.mirror", "a valid boolean"),
        ({"augmentation": {"miror": True}}, "recipe.augmentation.miror", "did you mean mirror?"),
        ({"augmentation": {"crop": "big"}}, "recipe.augmentation.crop", "'resized', 'random' or 'centre'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: object, field: str, part: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        read_recipe(value)
    assert str(caught.value).startswith(f"{field}: ")
    assert part in str(caught.value)


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(InvalidRecipe) as caught:
        read_recipe({"epochs": 0, "learnin_rate": 1, "augmentation": {"crop": "big", "hue": 2}})
    named = {fault.partition(":")[0] for fault in str(caught.value).split("; ") if fault.startswith("recipe.")}
    assert named == {
        "recipe.epochs", "recipe.learnin_rate", "recipe.augmentation.crop", "recipe.augmentation.hue",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_the_way_through_json(name: str) -> None:
    assert read_recipe(PRESETS[name].model_dump(mode="json")) == PRESETS[name]  # type: ignore[index]


@pytest.mark.parametrize("model", [Recipe, RecipeOverrides, Augmentation])
def test_every_field_says_what_it_means_and_which_values_it_takes(model: type[BaseModel]) -> None:
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        assert field.description, name
        shown = str(properties[name])
        assert any(bound in shown for bound in ("maximum", "enum", "boolean", "$ref")), name


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().epochs = 3  # type: ignore[misc]
