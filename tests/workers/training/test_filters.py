"""What a trained network sees goes into its artifact, its manifest and its card."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image
from support.teaching import colour_dataset
from support.trainer import QUICK, Trainer

from models.filters.files import FACTS, KERNELS, picture_key
from models.filters.patches import PER_FILTER
from storage.registry import Version


def taught(trainer: Trainer, per_class: int) -> Version:
    dataset = trainer.add_dataset(colour_dataset(trainer.folder / f"{per_class}", per_class=per_class))
    recipe = {**QUICK["recipe"], "epochs": 1, "batch_size": 8}  # type: ignore[dict-item]
    ended = trainer.run_here(trainer.create(**{**QUICK, "model": "colours", "dataset": dataset, "recipe": recipe}))
    assert ended.result is not None, ended.error
    return trainer.registry.resolve("colours")


def file_of(trainer: Trainer, version: Version, name: str) -> bytes:
    return trainer.blobs.get_bytes(f"{version.artifact}/{name}")


def test_a_fine_tune_leaves_its_kernels_and_the_patches_that_excite_its_filters(trainer: Trainer) -> None:
    version = taught(trainer, 30)
    facts = json.loads(file_of(trainer, version, FACTS))
    assert (facts["kernels"]["layer"], facts["kernels"]["count"]) == ("features.0", 6)
    assert facts["images"] == {"shown": 18, "of": 18, "part": "validation"}
    assert [layer["name"] for layer in facts["layers"]] == ["features.0", "features.3"]
    card = file_of(trainer, version, "card.html").decode()
    for picture in (KERNELS, *(layer["picture"] for layer in facts["layers"])):
        content = file_of(trainer, version, picture_key(picture))
        assert picture_key(picture) in version.manifest["files"]
        assert base64.b64encode(content).decode() in card
        assert Image.open(io.BytesIO(content)).width > 100
    assert "among 18 of 18 validation images" in card
    for layer in facts["layers"]:
        for found in layer["filters"]:
            assert_strongest_first(found["patches"], layer)
    short = version.manifest["findings"]["filters"]
    assert [layer["name"] for layer in short["layers"]] == ["features.0", "features.3"]
    assert '"patches":' not in json.dumps(short)


def assert_strongest_first(patches: list[dict[str, Any]], layer: dict[str, Any]) -> None:
    activations = [patch["activation"] for patch in patches]
    assert activations == sorted(activations, reverse=True)
    assert len({patch["image"] for patch in patches}) == len(patches) == PER_FILTER
    assert {patch["image"].rpartition("/")[0] for patch in patches} <= {"red", "green", "blue"}
    boxes = np.array([patch["window"] for patch in patches])
    assert (boxes[:, 2:] - boxes[:, :2] == layer["receptive_field"]).all()


def test_where_there_are_too_few_validation_images_the_card_says_so(trainer: Trainer) -> None:
    version = taught(trainer, 10)
    short = version.manifest["findings"]["filters"]
    assert (short["layers"], short["images"]) == ([], None)
    assert short["kernels"]["picture"] == KERNELS
    assert "nine of more images are shown, and there are 6 validation images." in short["left_out"][0]
    assert "there are 6 validation images" in file_of(trainer, version, "card.md").decode()
