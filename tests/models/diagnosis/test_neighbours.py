"""The nearest of the own class: exact, whatever the blocks."""

import numpy as np
import pytest
from support.clouds import clouds

from models.diagnosis import neighbours
from models.diagnosis.neighbours import NEAREST, find_neighbours, multiply_adds


@pytest.mark.parametrize("at_once", [1, 70, 4_000_000])
def test_they_are_those_of_a_search_through_all(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PAIRS_AT_ONCE", at_once)
    embedding, targets = clouds(30)
    found = find_neighbours(embedding, targets)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    distance[targets[:, None] != targets] = np.inf
    np.fill_diagonal(distance, np.inf)
    assert found.distance == pytest.approx(np.sort(distance, axis=1)[:, :NEAREST], abs=1e-6)
    assert np.take_along_axis(distance, found.places, axis=1) == pytest.approx(found.distance, abs=1e-6)


def test_a_class_of_few_has_fewer_and_one_alone_has_none() -> None:
    embedding, _ = clouds(1, classes=4)
    found = find_neighbours(embedding, np.array([0, 0, 0, 1]))
    assert (found.places[0] >= 0).tolist() == [True, True] + [False] * 8
    assert (found.places[3] == -1).all()
    assert np.isnan(found.distance[3]).all()


def test_an_embedding_of_zeros_is_far_from_all() -> None:
    embedding = np.concatenate([np.zeros((1, 8)), clouds(5, classes=1)[0]]).astype(np.float32)
    found = find_neighbours(embedding, np.zeros(6, np.int64))
    assert found.distance[0, :5] == pytest.approx(np.ones(5))


def test_progress_counts_the_images_and_the_work_is_known_before() -> None:
    seen: list[tuple[int, int]] = []
    embedding, targets = clouds(20)
    find_neighbours(embedding, targets, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (60, 60)
    assert multiply_adds(targets, 8) == 3 * 20 * 20 * 8
