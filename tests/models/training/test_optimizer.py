"""What is decayed and how fast what moves; the learning rate over time."""

import math

import pytest
import torch
from torch import nn

from models.training.optimizer import Schedule, make_optimizer, parameter_groups
from models.training.recipe import DEFAULT, read_recipe
from models.training.strategy import freeze
from models.zoo.registry import build

STEPS = 10


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1_025", "timm/vit_tiny_patch16_224"])
def test_biases_and_normalisation_are_not_decayed(name: str) -> None:
    network = build(name, num_classes=3)
    freeze(network, "full", DEFAULT, pretrained=True)
    spared = {
        id(p)
        for m in network.modules()
        for key, p in m.named_parameters(recurse=False)
        if key == "bias" or isinstance(m, nn.BatchNorm2d | nn.LayerNorm)
    }
    groups = parameter_groups(network, DEFAULT, pretrained=True)
    for group in groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] == 0) == (id(parameter) in spared or parameter.ndim <= 1)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_the_backbone_learns_more_slowly_than_the_head() -> None:
    network = build("resnet18", num_classes=3)
    freeze(network, "full", DEFAULT, pretrained=True)
    scales = {
        id(p): group["scale"]
        for group in parameter_groups(network, DEFAULT, pretrained=True)
        for p in group["params"]
    }
    assert scales[id(network.fc.weight)] == 1.0  # type: ignore[union-attr]
    assert scales[id(network.conv1.weight)] == DEFAULT.backbone_rate  # type: ignore[union-attr]
    fresh = parameter_groups(network, DEFAULT, pretrained=False)
    assert {group["scale"] for group in fresh} == {1.0}


def test_frozen_parameters_are_in_no_group() -> None:
    network = build("resnet18", num_classes=3)
    freeze(network, "head", DEFAULT, pretrained=True)
    groups = parameter_groups(network, DEFAULT, pretrained=True)
    assert sum(p.numel() for group in groups for p in group["params"]) == 512 * 3 + 3


def rates(**recipe: object) -> list[float]:
    schedule = Schedule(read_recipe({"epochs": 10, **recipe}), STEPS)
    return [schedule.factor(step) for step in range(10 * STEPS)]


def test_cosine_rises_and_falls_to_nothing() -> None:
    factors = rates(schedule="cosine", warmup_epochs=1)
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[-1] < 0.001
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_steps_divide_at_their_epochs() -> None:
    factors = rates(schedule="step", schedule_epochs=4, schedule_factor=0.5, warmup_epochs=0)
    assert [factors[STEPS * epoch] for epoch in (0, 3, 4, 8)] == [1.0, 1.0, 0.5, 0.25]


def test_constant_is_constant() -> None:
    assert set(rates(schedule="constant", warmup_epochs=0)) == {1.0}


def test_a_plateau_divides_when_nothing_improves() -> None:
    schedule = Schedule(read_recipe({"schedule": "plateau", "schedule_epochs": 2, "warmup_epochs": 0}), STEPS)
    found = []
    for score in (0.5, 0.6, 0.6, 0.6, 0.7, 0.6, 0.6):
        schedule.epoch_ended(score)
        found.append(schedule.factor(0))
    assert found == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_a_plateau_goes_on_where_it_was() -> None:
    recipe = read_recipe({"schedule": "plateau", "schedule_epochs": 2, "warmup_epochs": 0})
    one, other = Schedule(recipe, STEPS), Schedule(recipe, STEPS)
    assert one.best == -math.inf
    one.epoch_ended(0.5)
    one.epoch_ended(0.4)
    other.restore(one.state())
    one.epoch_ended(0.4)
    other.epoch_ended(0.4)
    assert one.factor(0) == other.factor(0) == pytest.approx(0.1)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_is_the_one_asked_for_and_follows_the_schedule(name: str, kind: type) -> None:
    recipe = read_recipe({"optimizer": name, "learning_rate": 0.2, "schedule": "cosine", "warmup_epochs": 0})
    network = build("lenet5", num_classes=3)
    optimizer = make_optimizer(parameter_groups(network, recipe, pretrained=True), recipe)
    assert type(optimizer) is kind
    Schedule(recipe, STEPS).apply(optimizer, recipe.epochs * STEPS // 2)
    assert sorted({round(group["lr"], 6) for group in optimizer.param_groups}) == [0.01, 0.1]
