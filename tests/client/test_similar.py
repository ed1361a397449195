"""Embeddings, similar training images and a dataset's images through both clients, against the real service."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.colours import LABELS, picture
from support.stack import Stack
from support.taught import embedding_of, publish_taught
from support.waited import Connect

from fovea_client import Conflict, InvalidImage, NotFound

PICTURES = {f"{colour}/{n}.png": picture(colour, noise=1 + 10 * n) for colour in LABELS for n in range(3)}


@pytest.fixture(scope="module")
def dataset(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Sent once, and a version of the model `taught` that was taught it."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, data in PICTURES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    with stack.client() as client:
        found = client.datasets.create(folder)
    publish_taught(stack, "taught", PICTURES, {"id": found.id, "name": found.name})
    return found


def test_the_most_similar_training_images_of_one_and_of_a_list(fovea: Any, dataset: Any, tmp_path: Path) -> None:
    sky = tmp_path / "sky.png"
    sky.write_bytes(PICTURES["blue/1.png"])
    found = fovea.similar(sky, model="taught", k=3)
    assert (found.name, found.model, found.version, found.error) == (str(sky), "taught", 1, None)
    assert [near.label for near in found.similar] == ["blue"] * 3
    assert {near.name for near in found.similar} == {f"blue/{n}.png" for n in range(3)}
    assert found.dataset == {"id": dataset.id, "name": dataset.name, "state": "ready"}
    assert fovea.datasets.thumbnail(dataset.id, found.similar[0].sha256)[8:12] == b"WEBP"

    several = fovea.similar([picture("red"), b"no image", sky, tmp_path / "missing.png"], model="taught:1", k=1)
    assert [[near.label for near in one.similar] for one in several] == [["red"], [], ["blue"], []]
    assert [one.error and one.error.code for one in several] == [None, "not_an_image", None, "unreadable_file"]
    assert several[2].similar == found.similar[:1]


@pytest.mark.usefixtures("dataset")
def test_embeddings_are_the_networks_numbers(fovea: Any) -> None:
    image = picture("green", noise=5)
    found = fovea.embed(image, model="taught")
    np.testing.assert_allclose(np.asarray(found.embedding), embedding_of(image), atol=0.5)
    assert np.asarray(found.embedding).dtype == np.float32
    several = fovea.embed([image, b"no image"] * 40, model="taught")
    assert [len(one.embedding) for one in several] == [3, 0] * 40
    assert several[0].embedding == found.embedding
    assert {one.error.code for one in several[1::2]} == {"not_an_image"}


@pytest.mark.usefixtures("dataset")
def test_what_cannot_be_asked_is_raised(fovea: Any) -> None:
    with pytest.raises(Conflict) as without:
        fovea.embed(picture("red"), model="colours")
    assert without.value.code == "embedding_unavailable"
    with pytest.raises(Conflict) as unknown:
        fovea.similar([picture("red")], model="colours")
    assert unknown.value.code == "neighbours_unavailable"
    with pytest.raises(InvalidImage):
        fovea.similar(b"no image", model="taught")
    with pytest.raises(NotFound):
        fovea.embed(picture("red"), model="nobody")


def test_a_datasets_images_are_iterated_over(connect: Connect, stack: Stack, dataset: Any) -> None:
    fovea = connect(stack.url)
    images = list(fovea.datasets.images(dataset.id))
    assert {image.name: image.sha256 for image in images} == {
        name: hashlib.sha256(data).hexdigest() for name, data in PICTURES.items()
    }
    assert [image.label for image in fovea.datasets.images(dataset.id, label="red")] == ["red"] * 3
    assert list(fovea.datasets.images(dataset.id, split="val")) == []
