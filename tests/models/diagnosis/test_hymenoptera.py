"""Real photographs: turned labels of ants and bees, and copies of them that were cut or saved anew."""

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.diagnosis.duplicates import find_duplicates
from models.diagnosis.held_out import leave_each_out
from models.diagnosis.labels import find_wrong_labels
from models.diagnosis.neighbours import find_neighbours
from models.diagnosis.outliers import find_outliers
from models.errors import ImageError
from models.normalise import Normalise
from models.preprocess import prepare
from models.weights.loading import build_with_weights
from models.weights.store import WeightsStore
from models.zoo.layout import split_network

DATA = os.environ.get("FOVEA_TEST_DATA")

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="FOVEA_TEST_DATA is not set: no real photographs"),
]


@dataclass
class Photographs:
    names: list[str]
    content: list[bytes]
    pixels: list[NDArray[np.uint8]]
    targets: NDArray[np.int64]
    embedding: NDArray[np.float32]
    embed: Callable[[list[NDArray[np.uint8]]], NDArray[np.float32]]
    prepare: Callable[[bytes], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    """By `mobilenet_v1_025` with ImageNet weights."""
    store = WeightsStore(Path(str(DATA)) / "weights", offline=True)
    network, loaded = build_with_weights("mobilenet_v1_025", "imagenet", store, num_classes=2)
    backbone, normalise = split_network(network).backbone.eval(), Normalise(loaded.preprocessing)

    def embed(pixels: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            batches = torch.from_numpy(np.stack(pixels)).split(32)
            found: NDArray[np.float32] = torch.cat([backbone(normalise(batch)) for batch in batches]).numpy()
        return found

    def prepared(content: bytes) -> NDArray[np.uint8]:
        return prepare(content, loaded.preprocessing)

    names, contents, pixels = [], [], []
    with zipfile.ZipFile(Path(str(DATA)) / "hymenoptera.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.count("/") < 2 or name.endswith("/"):
                continue
            try:
                pixels.append(prepared(archive.read(name)))
            except ImageError:
                continue
            names.append(name)
            contents.append(archive.read(name))
    targets = np.array(["/bees/" in name for name in names], dtype=np.int64)
    return Photographs(names, contents, pixels, targets, embed(pixels), embed, prepared)


def test_of_five_percent_turned_labels_sixty_percent_are_among_the_first_ten_percent_named(
    photographs: Photographs,
) -> None:
    """By ten seeds: the spread is in docs/decisions/0041."""
    images = len(photographs.names)
    shares = []
    for seed in range(10):
        turned = np.random.default_rng(seed).choice(images, round(0.05 * images), replace=False)
        targets = photographs.targets.copy()
        targets[turned] = 1 - targets[turned]
        judged = leave_each_out(photographs.embedding, targets, photographs.names, np.arange(2))
        first = judged.rows[find_wrong_labels(judged).rows[: round(0.1 * images)]]
        shares.append(float(np.isin(turned, first).mean()))
    assert min(shares) >= 0.6, shares
    assert np.mean(shares) >= 0.7, shares


def test_the_picture_that_says_that_there_is_none_is_like_no_ant(photographs: Photographs) -> None:
    found = find_outliers(find_neighbours(photographs.embedding, photographs.targets), photographs.targets)
    ants = [photographs.names[place] for place in found.places if photographs.targets[place] == 0]
    assert ants[0].endswith("imageNotFound.gif")
    assert len(found.places) < 0.05 * len(photographs.names)


@pytest.mark.parametrize(
    ("change", "least"), [("saved anew", 20), ("cut", 20), ("brighter", 20), ("mirrored", 20), ("half", 12)]
)
def test_copies_are_found_and_no_two_photographs_are_taken_for_one(
    photographs: Photographs, change: str, least: int
) -> None:
    chosen = np.random.default_rng(0).choice(len(photographs.names), 20, replace=False)
    copies = [photographs.prepare(changed(photographs.content[place], change)) for place in chosen]
    pixels = [*photographs.pixels, *copies]
    targets = np.concatenate([photographs.targets, photographs.targets[chosen]])
    embedding = np.concatenate([photographs.embedding, photographs.embed(copies)])
    groups = find_duplicates(find_neighbours(embedding, targets), targets, pixels.__getitem__)
    expected = {(int(place), len(photographs.names) + n) for n, place in enumerate(chosen)}
    found = {group.places for group in groups}
    assert found <= expected
    assert len(found) >= least


def changed(content: bytes, how: str) -> bytes:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = image.size
    if how == "cut":
        image = image.crop((width // 50, height // 50, width - width // 50, height - height // 50))
    elif how == "brighter":
        image = image.point(lambda value: min(255, value * 6 // 5))
    elif how == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif how == "half":
        image = image.resize((width // 2, height // 2))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60 if how == "saved anew" else 85)
    return buffer.getvalue()
