"""A network trained from images to weights: by a regression or by steps on features, or by steps on images."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.teaching import CPU, SMALL_RECIPE, Watching, colour_dataset
from torch import nn

from models.backbone_graph import BackboneGraphs
from models.dataset.folder import DatasetFolder
from models.errors import ExportFailed
from models.normalise import Normalise
from models.training.checkpoint import Checkpoints, weights_sha256
from models.training.errors import InvalidRecipe
from models.training.eval_inputs import EvalInputs
from models.training.features import FeatureCache
from models.training.inputs import TrainingInputs, prepare_inputs
from models.training.interruption import Interrupted
from models.training.loop import evaluate
from models.training.recipe import read_recipe
from models.training.seeding import seed_everything
from models.training.split import ImageList, Split, split_dataset
from models.training.strategy import Strategy
from models.training.train import KeptGraphs, TrainedModel, train
from models.weights.loading import default_preprocessing
from models.zoo.layout import split_network
from models.zoo.registry import build, get

REGRESSION = {**SMALL_RECIPE, "head": "regression", "head_views": 1}


@pytest.fixture
def inputs(colours: DatasetFolder, tmp_path: Path) -> TrainingInputs:
    split = split_dataset(colours, fraction=0.25, seed=0)
    return prepare_inputs(split, default_preprocessing(get("lenet5")), tmp_path / "pixels")


def network(seed: int = 3, classes: int = 3) -> nn.Module:
    seed_everything(seed, "network")
    return build("lenet5", num_classes=classes)


def trained(
    whole: nn.Module,
    inputs: TrainingInputs,
    folder: Path,
    recipe: dict[str, Any] = SMALL_RECIPE,
    *,
    strategy: Strategy = "full",
    watcher: Watching | None = None,
    checkpoints: Checkpoints | None = None,
    kept_labels: tuple[str, ...] = (),
    graphs: KeptGraphs | None = None,
) -> TrainedModel:
    return train(
        whole,
        inputs,
        read_recipe(recipe),
        strategy=strategy,
        pretrained=False,
        seed=7,
        device=CPU,
        watcher=watcher or Watching(),
        cache=FeatureCache(folder / "features"),
        graphs=graphs,
        checkpoints=checkpoints,
        kept_labels=kept_labels,
    )


def accuracy(model: TrainedModel, part: EvalInputs, targets: Any) -> float:
    return float((evaluate(model.network, part, Watching()).argmax(1) == targets).mean())


def test_steps_on_images_change_every_layer_and_learn_the_classes(inputs: TrainingInputs, tmp_path: Path) -> None:
    whole, watcher = network(), Watching()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    model = trained(whole, inputs, tmp_path, {**SMALL_RECIPE, "epochs": 6}, watcher=watcher)
    assert watcher.phases == ["training"]
    assert model.head is None
    assert model.network is whole
    assert all(not torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    assert accuracy(model, model.validation, inputs.split.validation.targets) > 0.9
    assert len(model.result.history) == len(watcher.epochs) == 6


@pytest.mark.parametrize("recipe", [REGRESSION, {**SMALL_RECIPE, "head": "gradient", "epochs": 40}])
def test_a_head_is_trained_on_features_and_the_backbone_stays(
    inputs: TrainingInputs, tmp_path: Path, recipe: dict[str, Any]
) -> None:
    whole, watcher = network(), Watching()
    backbone = weights_sha256(dict(split_network(whole).backbone.state_dict()))
    model = trained(whole, inputs, tmp_path, recipe, strategy="head", watcher=watcher)
    assert watcher.phases == ["extracting", "training"]
    assert weights_sha256(dict(split_network(whole).backbone.state_dict())) == backbone
    assert accuracy(model, model.validation, inputs.split.validation.targets) > 0.9
    # The whole network answers to images what the head answers to their features.
    images = torch.from_numpy(inputs.validation.array[:4].copy())
    with torch.inference_mode():
        answered = whole.eval()(Normalise(inputs.preprocessing)(images))
        by_head = model.network.eval()(model.validation.batch(0, 4))
    assert torch.allclose(answered, by_head, atol=1e-4)


def test_a_head_taught_on_the_kept_graphs_features_is_the_one_taught_on_torchs(
    inputs: TrainingInputs, tmp_path: Path
) -> None:
    graphs = KeptGraphs(BackboneGraphs(tmp_path / "kept"), tmp_path / "copy.onnx")
    by_torch, by_runtime, twice = network(), network(), network()
    trained(by_torch, inputs, tmp_path / "torch", REGRESSION, strategy="head")
    model = trained(by_runtime, inputs, tmp_path / "first", REGRESSION, strategy="head", graphs=graphs)
    trained(twice, inputs, tmp_path / "second", REGRESSION, strategy="head", graphs=graphs)
    assert model.backbone == tmp_path / "copy.onnx"
    heads = [split_network(whole).head.weight.detach() for whole in (by_torch, by_runtime, twice)]
    assert torch.allclose(heads[0], heads[1], rtol=1e-2, atol=1e-3 * float(heads[0].abs().max()))
    # The first time that a backbone is seen its features come from the same graph as every later time.
    assert torch.equal(heads[1], heads[2])


def test_a_backbone_without_a_graph_is_seen_by_torch(
    inputs: TrainingInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ExportFailed("no such operator")

    monkeypatch.setattr("models.backbone_graph.backbone_graph", fail)
    graphs = KeptGraphs(BackboneGraphs(tmp_path / "kept"), tmp_path / "copy.onnx")
    model = trained(network(), inputs, tmp_path, REGRESSION, strategy="head", graphs=graphs)
    assert model.backbone is None
    assert "the backbone is not kept as a graph: no such operator" in caplog.text


def test_a_regression_has_one_record_and_its_trials(inputs: TrainingInputs, tmp_path: Path) -> None:
    model = trained(network(), inputs, tmp_path, REGRESSION, strategy="head")
    assert (model.result.stopped, len(model.result.history)) == ("solved", 1)
    assert model.head is not None
    assert {trial.augmented for trial in model.head.trials} == {False, True}


def test_the_same_seed_gives_the_same_weights(inputs: TrainingInputs, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        whole = network()
        trained(whole, inputs, tmp_path)
        found.append(weights_sha256(dict(whole.state_dict())))
    assert found[0] == found[1]


def test_an_interrupted_training_goes_on_where_it_was(inputs: TrainingInputs, tmp_path: Path) -> None:
    whole, straight = network(), network()
    trained(straight, inputs, tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints", "same")
    with pytest.raises(Interrupted):
        trained(whole, inputs, tmp_path, watcher=Watching(stop_at=(2, 1)), checkpoints=checkpoints)
    resumed, watcher = network(seed=99), Watching()
    trained(resumed, inputs, tmp_path, watcher=watcher, checkpoints=checkpoints)
    assert watcher.steps[0] == (2, 2)
    assert weights_sha256(dict(resumed.state_dict())) == weights_sha256(dict(straight.state_dict()))


def test_a_regression_of_a_head_that_is_not_one_layer_is_refused(inputs: TrainingInputs, tmp_path: Path) -> None:
    whole = network()
    deep = nn.Sequential(nn.Linear(84, 8), nn.ReLU(), nn.Linear(8, 3))
    parent, _, name = get("lenet5").layout.head.rpartition(".")
    setattr(whole.get_submodule(parent), name, deep)
    with pytest.raises(InvalidRecipe, match=r"recipe\.head: got 'regression'.*not one linear layer"):
        trained(whole, inputs, tmp_path, REGRESSION, strategy="head")


def test_labels_that_the_head_knew_stay_near_their_rows(inputs: TrainingInputs, tmp_path: Path) -> None:
    moved = {}
    for kept in ((), inputs.split.labels[:1]):
        whole = network()
        head = split_network(whole).head
        with torch.no_grad():
            head.weight.mul_(100)
        before = head.weight.detach()[0].clone()
        trained(whole, inputs, tmp_path, REGRESSION, strategy="head", kept_labels=kept)
        moved[kept] = float((head.weight.detach()[0] - before).norm() / before.norm())
    assert moved[inputs.split.labels[:1]] < 0.8 * moved[()]


def test_a_sampler_and_weights_are_the_same_to_a_regression(tmp_path: Path) -> None:
    """It draws no images, and must not ignore what was asked for."""
    split = split_dataset(
        colour_dataset(tmp_path / "uneven", per_class=12, split=lambda i: "val" if i < 4 else "train"),
        fraction=0.25,
        seed=0,
    )
    found = {}
    for balance in ("none", "weights", "sampler"):
        inputs = prepare_inputs(uneven(split), default_preprocessing(get("lenet5")), tmp_path / "pixels")
        whole = network()
        trained(whole, inputs, tmp_path, {**REGRESSION, "class_balance": balance}, strategy="head")
        found[balance] = weights_sha256(dict(whole.state_dict()))
    assert found["weights"] == found["sampler"] != found["none"]


def uneven(split: Split) -> Split:
    """The split with a third of the first class's training images."""
    keep = np.flatnonzero((split.train.targets != 0) | (np.arange(len(split.train)) % 3 == 0))
    train = split.train
    fewer = ImageList(
        tuple(train.paths[i] for i in keep),
        train.targets[keep],
        tuple(train.names[i] for i in keep),
        tuple(train.sha256[i] for i in keep),
    )
    return dataclasses.replace(split, train=fewer)


def test_mixed_images_have_no_features_of_their_own(inputs: TrainingInputs, tmp_path: Path) -> None:
    mixing = {**SMALL_RECIPE["augmentation"], "mixup": 0.2}
    watcher = Watching()
    trained(
        network(), inputs, tmp_path, {**SMALL_RECIPE, "augmentation": mixing}, strategy="head", watcher=watcher
    )
    assert watcher.phases == ["training"]
    with pytest.raises(InvalidRecipe, match="needs features that are kept"):
        trained(network(), inputs, tmp_path, {**REGRESSION, "augmentation": mixing}, strategy="head")
