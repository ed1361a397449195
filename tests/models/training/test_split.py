"""Who trains, who validates and who tests."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.colours import LABELS, picture
from support.teaching import colour_dataset

from models.dataset.changes import Changes, apply
from models.dataset.draw import next_draw
from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.dataset.sample import Sample, natural_order
from models.training.errors import UntrainableDataset
from models.training.split import split_again, split_dataset


def test_a_dataset_without_a_split_is_split_by_class(colours: DatasetFolder) -> None:
    split = split_dataset(colours, fraction=0.25, seed=0)
    assert split.labels == tuple(sorted(LABELS))
    assert np.bincount(split.validation.targets).tolist() == [3, 3, 3]
    assert np.bincount(split.train.targets).tolist() == [9, 9, 9]
    assert not set(split.train.sha256) & set(split.validation.sha256)


def test_the_split_depends_on_the_seed_and_on_nothing_else(colours: DatasetFolder) -> None:
    first, again, other = (split_dataset(colours, fraction=0.25, seed=seed) for seed in (0, 0, 1))
    assert first.validation.sha256 == again.validation.sha256
    assert set(first.validation.sha256) != set(other.validation.sha256)


@pytest.mark.parametrize("fraction", [0.25, 1 / 3, 1e-2])
def test_a_split_is_made_again_by_what_it_says_of_itself(colours: DatasetFolder, fraction: float) -> None:
    split = split_dataset(colours, fraction=fraction, seed=7)
    again = split_again(colours, split.origin)
    assert (again.validation.sha256, again.origin) == (split.validation.sha256, split.origin)
    with pytest.raises(UntrainableDataset, match="nobody knows how the split 'by hand' was made"):
        split_again(colours, "by hand")


def test_a_dataset_with_a_split_keeps_it(tmp_path: Path) -> None:
    dataset = colour_dataset(
        tmp_path / "d", per_class=5, split=lambda i: "test" if i == 4 else "val" if i == 3 else "train"
    )
    split = split_dataset(dataset, fraction=0.2, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (9, 3, 3)
    assert split.origin == "given"
    assert split_again(dataset, "given").validation.sha256 == split.validation.sha256


def test_without_validation_images_the_test_images_stay_out_of_it(tmp_path: Path) -> None:
    dataset = colour_dataset(tmp_path / "d", per_class=6, split=lambda i: "test" if i == 0 else "train")
    split = split_dataset(dataset, fraction=0.2, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (12, 3, 3)


def test_one_class_is_refused(tmp_path: Path) -> None:
    dataset = colour_dataset(tmp_path / "d", per_class=4, labels=("red",))
    with pytest.raises(UntrainableDataset, match=r"1 class\(es\), expected at least 2"):
        split_dataset(dataset, fraction=0.2, seed=0)


def test_a_class_with_one_image_is_refused_by_name(tmp_path: Path) -> None:
    images = [LabelledImage(picture("red", noise=i), "red", None, f"{i}") for i in (1, 2, 3)]
    dataset = write_dataset(tmp_path / "d", [*images, LabelledImage(picture("blue"), "blue", None, "b")])
    with pytest.raises(UntrainableDataset, match="'blue' has one image"):
        split_dataset(dataset, fraction=0.2, seed=0)


def test_a_class_that_only_validates_is_refused_by_name(tmp_path: Path) -> None:
    images = [
        LabelledImage(picture("red", noise=1), "red", "train", "1"),
        LabelledImage(picture("red", noise=2), "red", "val", "2"),
        LabelledImage(picture("blue"), "blue", "val", "3"),
    ]
    with pytest.raises(UntrainableDataset, match="no training image of 'blue'"):
        split_dataset(write_dataset(tmp_path / "d", images), fraction=0.2, seed=0)


def test_images_of_none_are_no_class_and_are_split_apart(tmp_path: Path) -> None:
    labels = ["red", "blue", "none"]
    images = [
        LabelledImage(picture(colour, noise=1 + i + 100 * k), label, None, f"{label}/{i}.png")
        for k, (label, colour) in enumerate(zip(labels, LABELS, strict=True))
        for i in range(8)
    ]
    dataset = write_dataset(tmp_path / "d", images)
    assert dataset.labels == ("blue", "red")
    assert dataset.counts["none"] == {"all": 8}
    split = split_dataset(dataset, fraction=0.25, seed=0)
    assert (len(split.train), len(split.validation)) == (12, 4)
    assert (len(split.foreign.train), len(split.foreign.validation)) == (6, 2)
    assert split.describe()["none"] == {"train": 6, "validation": 2, "test": 0}
    assert set(split.foreign.train.targets.tolist()) == {-1}
    assert split_again(dataset, split.origin).foreign.validation.sha256 == split.foreign.validation.sha256


def sides(dataset: DatasetFolder, seed: int) -> dict[str, str]:
    split = split_dataset(dataset, fraction=0.25, seed=seed)
    parts = (("train", split.train), ("validation", split.validation))
    return {sha256: name for name, images in parts for sha256 in images.sha256}


def revised(dataset: DatasetFolder, changes: Changes, added: tuple[Sample, ...] = ()) -> DatasetFolder:
    samples = (*apply(changes, dataset.samples).samples, *added)
    draw = next_draw(dataset.samples, dataset.draw, samples)
    labels = natural_order(sample.label for sample in samples)
    return dataclasses.replace(dataset, samples=samples, labels=labels, draw=draw)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_revision_every_image_stays_on_its_side(colours: DatasetFolder, seed: int) -> None:
    before = sides(colours, seed)
    first, second_red, *_ = [sample for sample in colours.samples if sample.label == "red"]
    green = next(sample for sample in colours.samples if sample.label == "green")
    second = revised(colours, Changes(relabel=((first.sha256, "blue"),), remove=(second_red.sha256,)))
    added = tuple(dataclasses.replace(first, sha256=f"{n:064x}", name=f"new/{n}.png") for n in range(20))
    third = revised(second, Changes(remove=(green.sha256,)), added)
    fourth = revised(third, Changes(relabel=((first.sha256, "red"), (added[0].sha256, "green"))))
    for revision in (second, third, fourth):
        now = sides(revision, seed)
        assert {sha256: side for sha256, side in now.items() if sha256 in before}.items() <= before.items()
    then, later = sides(third, seed), sides(fourth, seed)
    assert then == later
    assert {then[sample.sha256] for sample in added} == {"train", "validation"}


def test_a_revision_without_changes_of_content_is_drawn_as_the_first(colours: DatasetFolder) -> None:
    assert sides(revised(colours, Changes()), 3) == sides(colours, 3)


def test_a_class_that_came_later_has_images_on_both_sides(colours: DatasetFolder) -> None:
    for n in range(20):
        added = tuple(
            dataclasses.replace(colours.samples[0], sha256=f"{2 * n + i:064x}", label="new", name=f"{i}.png")
            for i in range(2)
        )
        now = sides(revised(colours, Changes(), added), 0)
        assert {now[sample.sha256] for sample in added} == {"train", "validation"}
