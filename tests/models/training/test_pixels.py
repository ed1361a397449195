"""Training sees the pixels that serving would, decoded once."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from support.teaching import colour_dataset

from models.dataset.folder import DatasetFolder
from models.errors import ImageUnreadable
from models.preprocess import prepare
from models.spec import Preprocessing
from models.training.pixels import Pixels, canvas_of, decode
from models.training.split import ImageList, split_dataset

SMALL = Preprocessing(height=20, width=20, resize=24)


def test_pixels_are_those_of_serving(colours: DatasetFolder, tmp_path: Path) -> None:
    split = split_dataset(colours, fraction=0.25, seed=0)
    pixels = decode(split.validation, SMALL, tmp_path)
    for path, decoded in zip(split.validation.paths, pixels.array, strict=True):
        assert np.array_equal(decoded, prepare(path, SMALL))


def test_the_middle_of_a_canvas_is_the_view_of_serving(colours: DatasetFolder, tmp_path: Path) -> None:
    canvas = canvas_of(SMALL)
    assert (canvas.height, canvas.width, canvas.resize) == (24, 24, 24)
    split = split_dataset(colours, fraction=0.25, seed=0)
    pixels = decode(split.train, canvas, tmp_path)
    middle = pixels.array[:, 2:22, 2:22].astype(int)
    served = np.stack([prepare(path, SMALL) for path in split.train.paths]).astype(int)
    assert np.abs(middle - served).mean() < 2  # the crops are cut out before or after rounding


def test_images_are_decoded_once_for_each_preprocessing(colours: DatasetFolder, tmp_path: Path) -> None:
    split = split_dataset(colours, fraction=0.25, seed=0)
    ticks: list[int] = []
    for _ in range(2):
        decode(split.train, SMALL, tmp_path, on_progress=lambda done, _: ticks.append(done))
    assert ticks[-1] == len(split.train)
    assert ticks.count(len(split.train)) == 1
    decode(split.train, canvas_of(SMALL), tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_damaged_image_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = colour_dataset(tmp_path / "d", per_class=4)
    split = split_dataset(dataset, fraction=0.25, seed=0)
    split.train.paths[3].write_bytes(b"no picture")
    with pytest.raises(ImageUnreadable, match=split.train.names[3]):
        decode(split.train, SMALL, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_another_process_gets_the_files_name_and_not_its_content(colours: DatasetFolder, tmp_path: Path) -> None:
    images = split_dataset(colours, fraction=0.25, seed=0).train
    pixels = decode(images, SMALL, tmp_path)
    sent = pickle.dumps(pixels)
    assert len(sent) < 1000 < pixels.array.nbytes
    assert np.array_equal(pickle.loads(sent).array, pixels.array)
    some = Pixels(pixels.array[2:4])
    assert np.array_equal(pickle.loads(pickle.dumps(some)).array, pixels.array[2:4])


def test_a_list_that_shares_images_decodes_the_others_alone(colours: DatasetFolder, tmp_path: Path) -> None:
    split = split_dataset(colours, fraction=0.25, seed=0)
    decode(split.train, SMALL, tmp_path / "kept")
    expected = decode(split.validation, SMALL, tmp_path / "other").array
    gone = tuple(tmp_path / name for name in split.train.sha256[::-2])
    half = ImageList(
        (*gone, *split.validation.paths),
        np.zeros(0, np.int64),
        (*split.train.names[::-2], *split.validation.names),
        (*split.train.sha256[::-2], *split.validation.sha256),
    )
    pixels = decode(half, SMALL, tmp_path / "kept")
    for i, path in enumerate(split.train.paths[::-2]):
        assert np.array_equal(pixels[i], prepare(path, SMALL))
    assert np.array_equal(pixels.array[-len(expected) :], expected)


def test_a_list_whose_array_is_gone_shares_nothing(colours: DatasetFolder, tmp_path: Path) -> None:
    split = split_dataset(colours, fraction=0.25, seed=0)
    decode(split.train, SMALL, tmp_path)
    for array in tmp_path.glob("*.npy"):
        array.unlink()
    pixels = decode(split.train, SMALL, tmp_path)
    assert np.array_equal(pixels[0], prepare(split.train.paths[0], SMALL))
