"""What a finished version makes of its own images: the same by the features at hand as by the exported graph."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.teaching import CPU, SMALL_RECIPE, Watching
from torch import nn

from models.dataset.folder import DatasetFolder
from models.export import to_onnx
from models.training import embedded
from models.training.embedded import EmbeddedSplit, embed_split
from models.training.features import FeatureCache
from models.training.inputs import TrainingInputs, prepare_inputs
from models.training.recipe import read_recipe
from models.training.seeding import seed_everything
from models.training.split import split_dataset
from models.training.strategy import Strategy
from models.training.train import TrainedModel, train
from models.weights.loading import default_preprocessing
from models.zoo.registry import build, get

REGRESSION = {**SMALL_RECIPE, "head": "regression", "head_views": 1}


@pytest.fixture
def inputs(colours: DatasetFolder, tmp_path: Path) -> TrainingInputs:
    split = split_dataset(colours, fraction=0.25, seed=0)
    return prepare_inputs(split, default_preprocessing(get("lenet5")), tmp_path / "pixels")


def taught(inputs: TrainingInputs, folder: Path, strategy: Strategy) -> tuple[TrainedModel, nn.Module]:
    seed_everything(3, "network")
    whole = build("lenet5", num_classes=3)
    trained = train(
        whole,
        inputs,
        read_recipe(REGRESSION if strategy == "head" else SMALL_RECIPE),
        strategy=strategy,
        pretrained=False,
        seed=7,
        device=CPU,
        watcher=Watching(),
        cache=FeatureCache(folder / "features"),
    )
    return trained, whole


def embed(trained: TrainedModel, whole: nn.Module, inputs: TrainingInputs, folder: Path) -> EmbeddedSplit:
    model = folder / "model.onnx"
    outputs = to_onnx(whole.cpu().eval(), model, preprocessing=inputs.preprocessing, labels=inputs.split.labels)
    return embed_split(trained, model, outputs, inputs, threads=2)


def test_features_at_hand_are_what_the_graph_would_give(inputs: TrainingInputs, tmp_path: Path) -> None:
    trained, whole = taught(inputs, tmp_path, "head")
    assert trained.features is not None
    at_hand = embed(trained, whole, inputs, tmp_path)
    by_graph = embed(dataclasses.replace(trained, features=None), whole, inputs, tmp_path)
    for part in ("train", "validation"):
        ours, other = getattr(at_hand, part), getattr(by_graph, part)
        np.testing.assert_allclose(ours.embedding, other.embedding, atol=1e-4)
        np.testing.assert_allclose(ours.logits, other.logits, atol=1e-3)
        assert ours.embedding.shape == (len(ours), 84)
    assert len(at_hand.test) == len(by_graph.test) == 0


def test_a_network_trained_as_a_whole_is_run_on_every_image(inputs: TrainingInputs, tmp_path: Path) -> None:
    trained, whole = taught(inputs, tmp_path, "full")
    found = embed(trained, whole, inputs, tmp_path)
    assert len(found.train) == len(inputs.split.train)
    assert found.train.targets.tolist() == inputs.split.train.targets.tolist()
    assert (found.validation.logits.argmax(1) == inputs.split.validation.targets).mean() > 0.9


def test_of_too_many_images_some_of_every_class_are_taken(
    inputs: TrainingInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, whole = taught(inputs, tmp_path, "full")
    monkeypatch.setattr(embedded, "MOST_BYTES", 10 * 84 * 4)
    found = embed(trained, whole, inputs, tmp_path).train
    assert len(found) <= 10
    assert set(found.targets.tolist()) == {0, 1, 2}
    assert found.embedding is not None
    assert len(found.embedding) == len(found)
