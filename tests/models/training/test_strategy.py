"""Which layers learn: the choice and its reason, and that nothing else moves, running statistics included."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.training.recipe import DEFAULT, read_recipe
from models.training.strategy import choose_strategy, freeze, head_dropout, set_dropout
from models.zoo.layout import classifiers, is_separable
from models.zoo.registry import build


def targets(per_class: int, classes: int = 3) -> np.ndarray:
    return np.repeat(np.arange(classes, dtype=np.int64), per_class)


@pytest.mark.parametrize(
    ("per_class", "expected"), [(20, "head"), (199, "head"), (200, "partial"), (1000, "full")]
)
def test_auto_goes_by_the_images_per_class_and_says_so(per_class: int, expected: str) -> None:
    choice = choose_strategy("auto", targets(per_class), 3, pretrained=True)
    assert choice.strategy == expected
    assert f"{per_class} training images per class" in choice.reason


def test_without_weights_everything_has_to_learn() -> None:
    assert choose_strategy("auto", targets(5), 3, pretrained=False).strategy == "full"
    choice = choose_strategy("head", targets(5), 3, pretrained=False)
    assert choice.strategy == "full"
    assert "'head'" in choice.reason


def test_what_is_asked_for_is_done() -> None:
    assert choose_strategy("full", targets(5), 3, pretrained=True).strategy == "full"


def train_a_little(
    strategy: str, name: str = "mobilenet_v1_025", **recipe: object
) -> tuple[dict[str, Tensor], nn.Module]:
    """The state before some real steps with a huge rate, and the network after them."""
    torch.manual_seed(0)
    network = build(name, num_classes=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        # Fresh statistics would let the signal die out on its way to the head.
        for _ in range(8):
            network(torch.randn(8, 3, 64, 64))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    learner = freeze(network, strategy, read_recipe(dict(recipe)), pretrained=True)  # type: ignore[arg-type]
    learner.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4) % 3)
        loss.backward()
        optimizer.step()
    return before, network


def changed(before: dict[str, Tensor], network: nn.Module) -> set[str]:
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_backbone_keeps_its_weights_and_its_running_statistics() -> None:
    before, network = train_a_little("head")
    heads = {f"{path}.{part}" for path in classifiers(network) for part in ("weight", "bias")}
    assert changed(before, network) == heads


def test_the_same_steps_without_freezing_do_move_the_statistics() -> None:
    """So that the test above cannot pass by itself."""
    before, network = train_a_little("full", batch_norm="trained")
    assert any("running_mean" in name for name in changed(before, network))


def test_full_training_from_weights_keeps_the_running_statistics_by_default() -> None:
    before, network = train_a_little("full")
    moved = changed(before, network)
    assert not any("running" in name or "num_batches" in name for name in moved)
    assert {name.split(".")[0] for name in moved} == {"features", "head"}


@pytest.mark.parametrize("name", ["mobilenet_v1_025", "resnet18", "mobilenet_v2", "squeezenet1_1", "googlenet"])
def test_partial_trains_the_last_stages_and_no_first_ones(name: str) -> None:
    network = build(name, num_classes=3)
    freeze(network, "partial", DEFAULT, pretrained=True)
    weights = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    learns = [m.weight.requires_grad for m in weights]
    assert learns[-1]
    assert not learns[0]
    assert 0.1 < sum(learns) / len(learns) < 0.75


def test_partial_keeps_the_frozen_part_to_the_bit() -> None:
    before, network = train_a_little("partial")
    moved = changed(before, network)
    assert any(name.startswith("features.13") for name in moved)
    assert not any(name.startswith(("features.0.", "features.3.")) for name in moved)


def test_dropout_before_the_head_acts_while_the_head_learns() -> None:
    network = build("mobilenet_v2", num_classes=3)
    freeze(network, "head", DEFAULT, pretrained=True).train()
    dropout = head_dropout(network)
    assert isinstance(dropout, nn.Dropout)
    assert dropout.training
    assert not network.training


def test_dropout_can_be_set() -> None:
    network = build("alexnet", num_classes=3)
    set_dropout(network, 0.3)
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.3}


def test_a_network_without_one_head_is_trained_as_a_whole() -> None:
    choice = choose_strategy("auto", targets(50), 3, pretrained=True, separable=False)
    assert choice.strategy == "full"
    assert "does not classify by one head" in choice.reason
    assert is_separable(build("lenet5", num_classes=3))
    assert not is_separable(build("timm/deit_tiny_distilled_patch16_224", num_classes=3))
