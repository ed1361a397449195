"""Who trains and who validates, and that training sees the pixels that serving would."""

from pathlib import Path

import numpy as np
import pytest
from support.colours import LABELS, picture
from support.teaching import colour_dataset

from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.errors import ImageUnreadable
from models.preprocess import prepare
from models.spec import Preprocessing
from models.training.data import canvas_of, decode, plan
from models.training.errors import DatasetUnusable

SMALL = Preprocessing(height=20, width=20, resize=24)


def test_a_dataset_without_a_split_is_split_by_class(colours: DatasetFolder) -> None:
    division = plan(colours, fraction=0.25, seed=0)
    assert division.labels == tuple(sorted(LABELS))
    assert np.bincount(division.validation.targets).tolist() == [3, 3, 3]
    assert np.bincount(division.train.targets).tolist() == [9, 9, 9]
    assert not set(division.train.sha256) & set(division.validation.sha256)


def test_the_split_depends_on_the_seed_and_on_nothing_else(colours: DatasetFolder) -> None:
    first, again, other = (plan(colours, fraction=0.25, seed=seed) for seed in (0, 0, 1))
    assert first.validation.sha256 == again.validation.sha256
    assert set(first.validation.sha256) != set(other.validation.sha256)


def test_a_dataset_with_a_split_keeps_it(tmp_path: Path) -> None:
    dataset = colour_dataset(
        tmp_path / "d", per_class=5, split=lambda i: "test" if i == 4 else "val" if i == 3 else "train"
    )
    division = plan(dataset, fraction=0.2, seed=0)
    assert (len(division.train), len(division.validation), len(division.test)) == (9, 3, 3)
    assert division.origin == "given"


def test_without_validation_images_the_test_images_stay_out_of_it(tmp_path: Path) -> None:
    dataset = colour_dataset(tmp_path / "d", per_class=6, split=lambda i: "test" if i == 0 else "train")
    division = plan(dataset, fraction=0.2, seed=0)
    assert (len(division.train), len(division.validation), len(division.test)) == (12, 3, 3)


def test_one_class_is_refused(tmp_path: Path) -> None:
    dataset = colour_dataset(tmp_path / "d", per_class=4, labels=("red",))
    with pytest.raises(DatasetUnusable, match=r"1 class\(es\), expected at least 2"):
        plan(dataset, fraction=0.2, seed=0)


def test_a_class_with_one_image_is_refused_by_name(tmp_path: Path) -> None:
    images = [LabelledImage(picture("red", noise=i), "red", None, f"{i}") for i in (1, 2, 3)]
    dataset = write_dataset(tmp_path / "d", [*images, LabelledImage(picture("blue"), "blue", None, "b")])
    with pytest.raises(DatasetUnusable, match="'blue' has one image"):
        plan(dataset, fraction=0.2, seed=0)


def test_a_class_that_only_validates_is_refused_by_name(tmp_path: Path) -> None:
    images = [
        LabelledImage(picture("red", noise=1), "red", "train", "1"),
        LabelledImage(picture("red", noise=2), "red", "val", "2"),
        LabelledImage(picture("blue"), "blue", "val", "3"),
    ]
    with pytest.raises(DatasetUnusable, match="no training image of 'blue'"):
        plan(write_dataset(tmp_path / "d", images), fraction=0.2, seed=0)


def test_pixels_are_those_of_serving(colours: DatasetFolder, tmp_path: Path) -> None:
    division = plan(colours, fraction=0.25, seed=0)
    pixels = decode(division.validation, SMALL, tmp_path)
    for path, decoded in zip(division.validation.paths, pixels.array, strict=True):
        assert np.array_equal(decoded, prepare(path, SMALL))


def test_the_middle_of_a_canvas_is_the_view_of_serving(colours: DatasetFolder, tmp_path: Path) -> None:
    canvas = canvas_of(SMALL)
    assert (canvas.height, canvas.width, canvas.resize) == (24, 24, 24)
    division = plan(colours, fraction=0.25, seed=0)
    pixels = decode(division.train, canvas, tmp_path)
    middle = pixels.array[:, 2:22, 2:22].astype(int)
    served = np.stack([prepare(path, SMALL) for path in division.train.paths]).astype(int)
    assert np.abs(middle - served).mean() < 2  # the crops are cut out before or after rounding


def test_images_are_decoded_once_for_each_preprocessing(colours: DatasetFolder, tmp_path: Path) -> None:
    division = plan(colours, fraction=0.25, seed=0)
    ticks: list[int] = []
    for _ in range(2):
        decode(division.train, SMALL, tmp_path, tick=lambda done, _: ticks.append(done))
    assert ticks[-1] == len(division.train)
    assert ticks.count(len(division.train)) == 1
    decode(division.train, canvas_of(SMALL), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_image_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = colour_dataset(tmp_path / "d", per_class=4)
    division = plan(dataset, fraction=0.25, seed=0)
    division.train.paths[3].write_bytes(b"no picture")
    with pytest.raises(ImageUnreadable, match=division.train.names[3]):
        decode(division.train, SMALL, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
