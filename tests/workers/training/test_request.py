"""What a job row may ask for; whatever is wrong is named."""

import pytest

from models.training.digits import RECIPE
from models.training.errors import InvalidRecipe
from models.training.recipe import DEFAULT, read_recipe
from workers.training.request import InvalidRequest, read_finetune, read_publish

LEAST = {"model": "m", "dataset": "ds_1", "architecture": "resnet18"}


def test_three_fields_are_enough() -> None:
    request = read_finetune(LEAST)
    assert (request.weights, request.strategy, request.promote) == ("imagenet", "auto", "never")
    assert (request.recipe, request.fraction, request.seed) == (DEFAULT, 0.2, 0)


def test_the_built_in_dataset_has_a_default_recipe_of_its_own() -> None:
    assert read_finetune({**LEAST, "recipe": "default"}, RECIPE).recipe == read_recipe(RECIPE)
    assert read_finetune({**LEAST, "recipe": "alexnet-2012"}, RECIPE).recipe_name == "alexnet-2012"


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("model", None, "model: got None"),
        ("dataset", "", "dataset"),
        ("architecture", 3, "architecture"),
        ("architecture_params", "x", "architecture_params"),
        ("strategy", "tail", "auto, head, partial, full"),
        ("promote", "maybe", "never, if_better, always"),
        ("seed", -1, "seed"),
        ("seed", True, "seed"),
        ("validation", {"fraction": 0.99}, "validation.fraction"),
        ("validation", {"share": 0.2}, "validation.share"),
        ("validation", 0.2, "validation"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, part: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_finetune({**LEAST, field: value})
    assert part in str(caught.value)
    assert caught.value.field.split(".")[0] == field


def test_a_wrong_recipe_is_named() -> None:
    with pytest.raises(InvalidRecipe, match=r"recipe\.epochs"):
        read_finetune({**LEAST, "recipe": {"epochs": "many"}})


def test_publishing_needs_a_model_and_an_architecture() -> None:
    request = read_publish({"model": "m", "architecture": "resnet18"})
    assert (request.weights, request.labels, request.promote) == ("imagenet", (), "always")
    with pytest.raises(InvalidRequest, match="labels"):
        read_publish({"model": "m", "architecture": "resnet18", "labels": [1, 2]})
