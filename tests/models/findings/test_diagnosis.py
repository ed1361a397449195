"""What a fine-tune says of its own images: by its head's cross-validation where there was one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.colours import LABELS, picture
from support.teaching import CPU, SMALL_RECIPE, Watching

from models.card.blocks import Caution, ImageGrid, Paragraph
from models.dataset.folder import LabelledImage, write_dataset
from models.export import to_onnx
from models.findings import diagnosis
from models.findings.diagnosis import examine_images
from models.findings.subject import Subject
from models.training.embedded import EmbeddedImages, embed_split
from models.training.features import FeatureCache
from models.training.inputs import prepare_inputs
from models.training.recipe import read_recipe
from models.training.seeding import seed_everything
from models.training.split import split_dataset
from models.training.strategy import Strategy
from models.training.train import train
from models.weights.loading import default_preprocessing
from models.zoo.registry import build, get

TURNED = ("red/001.png", "blue/009.png")


def subject(folder: Path, strategy: Strategy = "head", *, per_class: int = 15) -> Subject:
    """LeNet-5, or a head on it that was solved, taught by colours of which two are called by another's name."""
    images = [
        LabelledImage(
            picture(colour, noise=1 + i + 1000 * k),
            LABELS[(k + (f"{colour}/{i:03d}.png" in TURNED)) % 3],
            None,
            f"{colour}/{i:03d}.png",
        )
        for k, colour in enumerate(LABELS)
        for i in range(per_class)
    ]
    split = split_dataset(write_dataset(folder / "colours", images), fraction=0.25, seed=0)
    inputs = prepare_inputs(split, default_preprocessing(get("lenet5")), folder / "pixels")
    seed_everything(3, "network")
    network = build("lenet5", num_classes=3)
    recipe = read_recipe({**SMALL_RECIPE, "head": "regression", "head_views": 1})
    trained = train(
        network, inputs, recipe if strategy == "head" else read_recipe(SMALL_RECIPE), strategy=strategy,
        pretrained=False, seed=7, device=CPU, watcher=Watching(), cache=FeatureCache(folder / "features"),
    )  # fmt: skip
    model = folder / "model.onnx"
    outputs = to_onnx(network.cpu().eval(), model, preprocessing=inputs.preprocessing, labels=split.labels)
    return Subject(
        folder=folder, model=model, architecture="lenet5", network=network, inputs=inputs, trained=trained,
        embedded=embed_split(trained, model, outputs, inputs, threads=1), temperature=1.0, recipe=recipe, seed=7,
        cache=folder, threads=1,
    )  # fmt: skip


def test_turned_labels_are_in_the_facts_and_shown_with_what_they_should_be(tmp_path: Path) -> None:
    found = examine_images(subject(tmp_path))
    assert found.name == "diagnosis"
    wrong = found.facts["wrong_labels"]
    assert (wrong["total"], wrong["checked"], wrong["reason"]) == (2, 45, None)
    assert {entry["path"] for entry in wrong["entries"][:2]} == set(TURNED)
    assert {entry["split"] for entry in wrong["entries"]} <= {"train", "val"}
    grid = next(block for block in found.blocks if isinstance(block, ImageGrid))
    shown = {picture.name: picture for picture in grid.pictures}
    assert shown["red/001.png"].title.startswith("red, ")
    assert shown["red/001.png"].detail.startswith("labelled green, ")
    # The right picture, as the network sees it.
    assert shown["red/001.png"].pixels.shape == (32, 32, 3)
    assert int(shown["red/001.png"].pixels.mean((0, 1)).argmax()) == 0


def test_training_images_are_judged_by_the_fits_own_cross_validation(tmp_path: Path) -> None:
    given = subject(tmp_path)
    head = given.trained.head
    assert head is not None
    assert head.held_out is not None
    confused = dataclasses.replace(head, held_out=head.held_out.roll(1, 1))
    turned = dataclasses.replace(given, trained=dataclasses.replace(given.trained, head=confused))
    assert len(examine_images(turned).facts["wrong_labels"]["entries"]) == diagnosis.IN_THE_MANIFEST


def test_without_that_heads_are_fitted_anew_and_what_was_learnt_as_a_whole_is_warned_of(tmp_path: Path) -> None:
    found = examine_images(subject(tmp_path, "full"))
    assert found.facts["wrong_labels"]["checked"] == 45
    assert isinstance(found.blocks[0], Caution)
    assert "The whole network learnt from these labels" in found.blocks[0].text


def test_what_would_take_too_long_and_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = subject(tmp_path, "full")
    with monkeypatch.context() as bounded:
        bounded.setattr(diagnosis, "MOST_OF_A_HEAD", 1)
        bounded.setattr(diagnosis, "MOST_OF_COMPARING", 1)
        found = examine_images(given)
    assert "would take too long within a fine-tune" in found.facts["wrong_labels"]["reason"]
    assert "too many images of a class" in found.facts["outliers"]["reason"]
    parts = {
        name: dataclasses.replace(getattr(given.embedded, name), embedding=None)
        for name in ("train", "validation", "test")
    }
    bare = dataclasses.replace(given, embedded=dataclasses.replace(given.embedded, **parts))
    found = examine_images(bare)
    assert "gives no embedding" in found.facts["near_duplicates"]["reason"]
    assert any(isinstance(block, Paragraph) and "not looked for" in block.text for block in found.blocks)


def test_few_images_are_no_error(tmp_path: Path) -> None:
    found = examine_images(subject(tmp_path, per_class=3))
    assert "at least two classes with 5 different images" in found.facts["wrong_labels"]["reason"]
    assert (found.facts["outliers"]["total"], found.facts["outliers"]["checked"]) == (0, 0)


def test_of_some_of_the_training_images_those_are_told(tmp_path: Path) -> None:
    """As where there are gigabytes of embeddings."""
    given = subject(tmp_path)
    rows = np.arange(0, len(given.embedded.train), 2)
    part = given.embedded.train
    assert part.embedding is not None
    fewer = EmbeddedImages(part.images, rows, part.logits[rows], part.embedding[rows])
    embedded = dataclasses.replace(given.embedded, train=fewer)
    found = examine_images(dataclasses.replace(given, embedded=embedded))
    assert found.facts["images"] == len(rows) + len(given.embedded.validation)
    assert found.facts["wrong_labels"]["checked"] == found.facts["images"]


def test_it_costs_next_to_nothing_beside_the_fit(tmp_path: Path) -> None:
    """No head is fitted a second time."""
    given = subject(tmp_path)

    def fitted(*_: object, **__: object) -> None:
        raise AssertionError("a head was fitted")

    with pytest.MonkeyPatch.context() as forbidden:
        forbidden.setattr("models.diagnosis.held_out.fit_head", fitted)
        assert examine_images(given).facts["wrong_labels"]["total"] == 2
    assert torch.get_num_threads() >= 1
