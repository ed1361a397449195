"""Sketches add up in any order, survive JSON, and are not mixed up."""

import json
from typing import Any

import pytest

from models.drift.sketch import OtherBins, Sketch, total

A = Sketch(2, ((1, 1), (0, 2, 0)), (0.5, -0.25))
B = Sketch(3, ((3, 0), (1, 1, 1)), (0.125, 0.1))
C = Sketch(1, ((0, 1), (1, 0, 0)), (-1.0, 0.7))


def test_in_whichever_order_they_are_added_the_sum_is_the_same() -> None:
    assert (A + B) + C == A + (B + C) == (C + B) + A == total([B, C, A])
    assert Sketch(5, ((4, 1), (1, 3, 1)), (0.625, -0.15)) == A + B


def test_of_none_there_is_no_sum() -> None:
    assert total([]) is None
    assert total([A]) == A


def test_it_survives_json() -> None:
    assert Sketch.from_dict(json.loads(json.dumps(A.to_dict()))) == A


@pytest.mark.parametrize(
    "found",
    [
        {},
        {**A.to_dict(), "images": 3},
        {**A.to_dict(), "counts": [[1, 1], [3, -1, 0]]},
        {**A.to_dict(), "counts": [["a"]]},
        {**A.to_dict(), "embedding": [None, 1.0]},
        {**A.to_dict(), "embedding": [float("nan"), 1.0]},
        {**A.to_dict(), "embedding": 5},
        [],
    ],
)
def test_what_is_no_sketch_is_told(found: Any) -> None:
    with pytest.raises(OtherBins, match="no sketch"):
        Sketch.from_dict(found)


@pytest.mark.parametrize(
    "other", [Sketch(1, ((1, 0),), A.embedding), Sketch(1, ((1, 0), (1, 0)), A.embedding), Sketch(2, A.counts)]
)
def test_of_other_bins_it_is_refused(other: Sketch) -> None:
    with pytest.raises(OtherBins):
        A + other
