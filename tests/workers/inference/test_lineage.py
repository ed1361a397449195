"""Which images a version has learnt from: those of its training, and of the versions that it started from."""

from typing import Any

import pytest
from support.learnt import datasets_of, learnt_dataset, learnt_version
from support.world import World

from models.training.split import split_dataset
from storage.registry import Version
from workers.inference.labelled import LabelledDataset
from workers.inference.lineage import Learnt, Lineage


def learnt(world: World, version: Version, evaluated: LabelledDataset) -> Learnt:
    return Lineage(world.registry, datasets_of(world), evaluated).learnt_by(version)


def trained(dataset: LabelledDataset, seed: int = 0) -> frozenset[str]:
    return frozenset(split_dataset(dataset.folder, fraction=0.2, seed=seed).train.sha256)


def everything(dataset: LabelledDataset) -> frozenset[str]:
    return frozenset(sample.sha256 for sample in dataset.folder.samples)


@pytest.mark.parametrize("seed", [0, 3])
def test_of_the_dataset_that_it_learnt_from_those_that_trained_it(world: World, seed: int) -> None:
    dataset = learnt_dataset(world)
    found = learnt(world, learnt_version(world, dataset, seed=seed), dataset)
    assert found == Learnt(trained(dataset, seed), ())
    assert len(found.images) == 24


def test_the_images_count_whichever_dataset_is_measured_by(world: World) -> None:
    first, second = learnt_dataset(world), learnt_dataset(world, seed=1)
    assert learnt(world, learnt_version(world, first), second).images == trained(first)


def test_what_the_versions_before_it_learnt_from_counts_as_well(world: World) -> None:
    first, second = learnt_dataset(world), learnt_dataset(world, seed=1)
    begun = learnt_version(world, first)
    found = learnt(world, learnt_version(world, second, started_from=begun), second)
    assert found == Learnt(trained(first) | trained(second), ())


def test_what_started_from_a_deleted_version_may_have_seen_more(world: World) -> None:
    first, second, third = (learnt_dataset(world, seed=seed) for seed in range(3))
    eldest = learnt_version(world, first)
    middle = learnt_version(world, second, started_from=eldest)
    version = learnt_version(world, third, started_from=middle)
    world.registry.delete_version("m", middle.number)
    found = learnt(world, version, third)
    # The eldest is still there, and is named in what is written down of the middle one.
    assert found.images == trained(first) | trained(third)
    assert found.gaps == (f"m:{middle.number}, which it started from, is deleted",)


def test_a_dataset_that_is_gone_is_a_gap(world: World) -> None:
    first, second = learnt_dataset(world), learnt_dataset(world, seed=1)
    version = learnt_version(world, first)
    world.datasets.delete(first.id)
    found = learnt(world, version, second)
    assert found.images == frozenset()
    assert found.gaps == ("dataset 'colours', which it learnt from, is not there any more",)


@pytest.mark.parametrize(
    "changes", [{"split": {"origin": "drawn by a release to come"}}, {"validation_hash": "of another draw"}]
)
def test_a_split_that_nobody_can_make_again_counts_as_a_whole(world: World, changes: dict[str, Any]) -> None:
    dataset = learnt_dataset(world)
    assert learnt(world, learnt_version(world, dataset, **changes), dataset).images == everything(dataset)


def test_of_published_weights_nobody_here_knows_what_they_learnt_from(world: World) -> None:
    found = learnt(world, learnt_version(world, None), learnt_dataset(world))
    assert found.images == frozenset()
    assert found.gaps == ("its weights come from elsewhere, and what they learnt from is not known here",)


def test_a_version_that_took_the_place_of_the_one_it_started_from_is_not_taken_for_it(
    world: World,
) -> None:
    dataset = learnt_dataset(world)
    begun = learnt_version(world, None)
    manifest = learnt_version(world, dataset, started_from=begun).manifest
    manifest["weights"]["sha256"] = "of other weights"
    version = world.registry.add_version("m", artifact="models/m/y", manifest=manifest, size_bytes=1)
    assert learnt(world, version, dataset).gaps == (f"m:{begun.number}, which it started from, is deleted",)
