"""The built-in dataset: all the digits, split once and for all."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from models.dataset.folder import DatasetFolder
from models.preprocess import prepare
from models.spec import Preprocessing
from models.training.digits import FILE, SPLIT_SEED, TEST_FRACTION, VALIDATION_FRACTION, open_digits
from models.training.split import split_dataset


def test_all_digits_are_there_and_each_class_is_in_each_split(digits: DatasetFolder) -> None:
    assert len(digits.samples) == 1797
    assert digits.labels == tuple("0123456789")
    split = split_dataset(digits, fraction=0.5, seed=9)
    assert (len(split.train), len(split.validation), len(split.test)) == (1221, 216, 360)
    assert all(np.bincount(part.targets).min() >= 20 for part in (split.validation, split.test))


def test_a_second_opening_finds_the_first(digits: DatasetFolder, tmp_path: Path) -> None:
    assert open_digits(digits.path).content_hash == digits.content_hash
    assert open_digits(tmp_path / "again").content_hash == digits.content_hash


def test_its_pixels_are_scikit_learns(digits: DatasetFolder) -> None:
    sample = next(s for s in digits.samples if s.name == "7/0007.png")
    pixels = prepare(digits.path_of(sample), Preprocessing(8, 8, 8, interpolation="nearest"))
    assert np.array_equal(pixels[..., 0], (load_digits().images[7] * 255 / 16).round())


def test_the_file_is_scikit_learns_dataset_with_its_split() -> None:
    digits = load_digits()
    rest, test = train_test_split(
        np.arange(1797), test_size=TEST_FRACTION, stratify=digits.target, random_state=SPLIT_SEED
    )
    train, val = train_test_split(
        rest, test_size=VALIDATION_FRACTION, stratify=digits.target[rest], random_state=SPLIT_SEED
    )
    with np.load(FILE) as file:
        assert np.array_equal(file["images"], digits.images)
        assert np.array_equal(file["labels"], digits.target)
        for place, part in enumerate((train, val, test)):
            assert np.array_equal(np.flatnonzero(file["splits"] == place), np.sort(part))
