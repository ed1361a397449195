"""The same picture again: by the embedding and by grey values, both."""

import numpy as np
from support.clouds import clouds

from models.diagnosis.duplicates import find_duplicates
from models.diagnosis.neighbours import find_neighbours


def pictures(count: int, *, seed: int = 0) -> np.ndarray:
    """Smooth ones, uint8 [n, 32, 32, 3], of which no two are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2).repeat(3, 3)


def found(embedding: np.ndarray, targets: np.ndarray, pixels: np.ndarray) -> list[tuple[int, ...]]:
    groups = find_duplicates(find_neighbours(embedding, targets), targets, pixels.__getitem__)
    return [group.places for group in groups]


def with_copies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sixty images, and copies of the first, twice, and of the fortieth."""
    embedding, targets = clouds(20, spread=1.0)
    nearly = embedding[[0, 0, 40]] * np.float32(1.02) + np.float32(1e-3)
    pixels = pictures(60)
    again = np.clip(pixels[[0, 0, 40]].astype(int) + 9, 0, 255).astype(np.uint8)
    return np.concatenate([embedding, nearly]), np.append(targets, [0, 0, 2]), np.concatenate([pixels, again])


def test_copies_are_groups_the_most_alike_first() -> None:
    embedding, targets, pixels = with_copies()
    groups = find_duplicates(find_neighbours(embedding, targets), targets, pixels.__getitem__)
    assert {group.places for group in groups} == {(0, 60, 61), (40, 62)}
    assert [group.similarity for group in groups] == sorted((g.similarity for g in groups), reverse=True)
    assert all(group.similarity > 0.99 for group in groups)


def test_a_mirrored_copy_is_one() -> None:
    embedding, targets, pixels = with_copies()
    pixels[62] = pixels[62][:, ::-1]
    assert (40, 62) in found(embedding, targets, pixels)


def test_what_only_the_network_takes_for_the_same_is_none() -> None:
    embedding, targets, pixels = with_copies()
    pixels[60:] = pictures(3, seed=5)
    assert found(embedding, targets, pixels) == []


def test_copies_under_two_labels_are_no_near_duplicates_of_a_class() -> None:
    embedding, targets, pixels = with_copies()
    targets[60:] = [1, 1, 0]
    # The two copies of the first are each other's.
    assert found(embedding, targets, pixels) == [(60, 61)]


def test_images_alone_in_their_class_and_of_one_colour_are_no_error() -> None:
    embedding, _ = clouds(1, classes=4)
    flat = np.zeros((4, 32, 32, 3), np.uint8)
    assert found(embedding, np.arange(4), flat) == []
    assert found(embedding[[0, 0, 1, 2]], np.zeros(4, np.int64), flat) == []
