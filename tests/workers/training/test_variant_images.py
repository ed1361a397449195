"""Which images calibrate and which judge: never the same, and never what trained the version."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from support.colours import LABELS
from support.teaching import colour_dataset

from models.artifact import Manifest
from models.dataset.folder import DatasetFolder
from models.spec import Preprocessing
from models.training.split import split_dataset
from workers.jobs.failure import InvalidRequest
from workers.training import variant_images
from workers.training.variant_images import choose_images

SIDE = Preprocessing(32, 32, 32)
PUBLISHED = Manifest("colours", LABELS, SIDE, "lenet5")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    return colour_dataset(tmp_path_factory.mktemp("made") / "colours", per_class=30)


def taught(dataset: DatasetFolder, *, fraction: float, seed: int) -> Manifest:
    split = split_dataset(dataset, fraction=fraction, seed=seed)
    learnt = {
        "content_hash": dataset.content_hash,
        "split": split.describe(),
        "validation_hash": split.validation.content_hash,
    }
    return dataclasses.replace(PUBLISHED, labels=split.labels, dataset=learnt)


def test_for_weights_from_elsewhere_a_fifth_calibrates_and_all_others_judge(colours: DatasetFolder) -> None:
    chosen = choose_images(PUBLISHED, colours)
    assert Counter(chosen.calibrating.targets.tolist()) == {0: 6, 1: 6, 2: 6}
    assert Counter(chosen.judging.targets.tolist()) == {0: 24, 1: 24, 2: 24}
    assert not set(chosen.calibrating.sha256) & set(chosen.judging.sha256)
    names = [f"{LABELS[target]}/" for target in chosen.judging.targets]
    assert all(name.startswith(label) for name, label in zip(chosen.judging.names, names, strict=True))
    again = choose_images(PUBLISHED, colours)
    assert (again.judging.content_hash, again.calibrating.content_hash) == (
        chosen.judging.content_hash,
        chosen.calibrating.content_hash,
    )


@pytest.mark.parametrize("seed", [0, 7])
def test_what_trained_a_version_calibrates_and_what_did_not_judges(colours: DatasetFolder, seed: int) -> None:
    split = split_dataset(colours, fraction=0.3, seed=seed)
    chosen = choose_images(taught(colours, fraction=0.3, seed=seed), colours)
    assert set(chosen.judging.sha256) == set(split.validation.sha256)
    assert set(chosen.calibrating.sha256) == set(split.train.sha256)


def test_a_given_split_is_kept_and_test_images_judge(tmp_path: Path) -> None:
    dataset = colour_dataset(
        tmp_path / "d", per_class=6, split=lambda i: "test" if i == 5 else "val" if i == 4 else "train"
    )
    for manifest in (PUBLISHED, taught(dataset, fraction=0.2, seed=0)):
        chosen = choose_images(manifest, dataset)
        assert (len(chosen.calibrating), len(chosen.judging)) == (12, 6)


def test_test_images_of_a_dataset_without_validation_never_calibrate(tmp_path: Path) -> None:
    dataset = colour_dataset(tmp_path / "d", per_class=10, split=lambda i: "test" if i < 4 else "train")
    chosen = choose_images(PUBLISHED, dataset)
    tests = {sample.sha256 for sample in dataset.samples if sample.split == "test"}
    assert tests <= set(chosen.judging.sha256)
    assert len(chosen.calibrating) == 4


def test_many_images_are_bounded_and_spread_over_the_classes(
    colours: DatasetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_images, "MOST_CALIBRATING", 6)
    monkeypatch.setattr(variant_images, "MOST_JUDGING", 9)
    chosen = choose_images(PUBLISHED, colours)
    assert Counter(chosen.calibrating.targets.tolist()) == {0: 2, 1: 2, 2: 2}
    assert Counter(chosen.judging.targets.tolist()) == {0: 3, 1: 3, 2: 3}


def test_a_label_that_two_classes_share_says_nothing(colours: DatasetFolder) -> None:
    """As `crane` and `maillot` among those of ImageNet."""
    chosen = choose_images(dataclasses.replace(PUBLISHED, labels=("red", "blue", "red")), colours)
    assert set(chosen.judging.targets.tolist()) == {1}
    assert (chosen.left_out, chosen.left_out_labels) == (60, ("green", "red"))


def test_where_nobody_knows_what_trained_the_version_its_dataset_is_refused(colours: DatasetFolder) -> None:
    learnt = taught(colours, fraction=0.3, seed=0).dataset
    assert learnt is not None
    for change, why in (
        ({"split": {"origin": "by hand"}}, "nobody knows how"),
        ({"validation_hash": "of other images"}, "would not make again"),
        ({"split": None}, "nobody knows how"),
    ):
        manifest = dataclasses.replace(PUBLISHED, dataset={**learnt, **change})
        with pytest.raises(InvalidRequest, match=why):
            choose_images(manifest, colours)
