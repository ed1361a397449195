"""A recipe is read from a request, and whatever is wrong with it is named."""

import dataclasses

import pytest

from models.training.errors import InvalidRecipe
from models.training.recipe import ALEXNET_2012, DEFAULT, PRESETS, Recipe, read_recipe


def test_nothing_and_a_name_give_presets() -> None:
    assert read_recipe(None) == DEFAULT
    assert read_recipe("alexnet-2012") is ALEXNET_2012


def test_single_fields_override_a_preset() -> None:
    recipe = read_recipe({"preset": "alexnet-2012", "epochs": 7, "augmentation": {"mirror": False}})
    assert (recipe.epochs, recipe.augmentation.mirror) == (7, False)
    assert recipe.augmentation.colour_pca == 0.1
    assert recipe.batch_size == 128


def test_alexnet_2012_is_as_published() -> None:
    r = ALEXNET_2012
    assert (r.optimizer, r.momentum, r.weight_decay, r.batch_size) == ("sgd", 0.9, 5e-4, 128)
    assert (r.learning_rate, r.schedule, r.schedule_factor, r.dropout) == (0.01, "plateau", 0.1, 0.5)
    assert (r.augmentation.crop, r.augmentation.mirror, r.augmentation.colour_pca) == ("random", True, 0.1)
    assert (r.label_smoothing, r.warmup_epochs, r.clip_norm, r.backbone_rate) == (0.0, 0.0, None, 1.0)


@pytest.mark.parametrize(
    ("value", "field", "part"),
    [
        ("alexnet", "recipe", "default, alexnet-2012"),
        (7, "recipe", "7"),
        ({"preset": "best"}, "recipe.preset", "'best'"),
        ({"learnin_rate": 0.1}, "recipe.learnin_rate", "did you mean learning_rate?"),
        ({"zzz": 0.1}, "recipe.zzz", "the fields are epochs"),
        ({"epochs": 0}, "recipe.epochs", "from 1 to 1000"),
        ({"epochs": 2.5}, "recipe.epochs", "a whole number"),
        ({"epochs": True}, "recipe.epochs", "a whole number"),
        ({"learning_rate": "fast"}, "recipe.learning_rate", "'fast'"),
        ({"learning_rate": float("nan")}, "recipe.learning_rate", "a number"),
        ({"optimizer": "adam"}, "recipe.optimizer", "adamw, sgd"),
        ({"clip_norm": 0}, "recipe.clip_norm", "or null"),
        ({"augmentation": "none"}, "recipe.augmentation", "an object"),
        ({"augmentation": {"mirror": 1}}, "recipe.augmentation.mirror", "true or false"),
        ({"augmentation": {"crop": "big"}}, "recipe.augmentation.crop", "resized, random, centre"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: object, field: str, part: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        read_recipe(value)
    assert caught.value.field == field
    assert part in str(caught.value)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_the_way_through_json(name: str) -> None:
    assert read_recipe(PRESETS[name].to_dict()) == PRESETS[name]


def test_every_field_has_a_rule() -> None:
    for part in (DEFAULT, DEFAULT.augmentation):
        for field in dataclasses.fields(part):
            if field.name != "augmentation":
                rule = field.metadata["rule"]
                rule.check(field.name, getattr(part, field.name))


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().epochs = 3  # type: ignore[misc]
