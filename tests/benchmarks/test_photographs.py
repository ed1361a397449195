"""The sets of photographs have the sizes that the figures are quoted for."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.photographs import LARGE_PIXELS, large_photographs, small_photographs


def test_without_test_data_small_photographs_are_crops_of_scikit_learns(tmp_path: Path) -> None:
    small = small_photographs(tmp_path, samples=None)

    described = small.describe()
    assert (described["width"], described["height"]) == (500, 375)
    assert described["count"] == len(set(small.read())) >= 8
    assert 40_000 < described["mean_bytes"] < 200_000


def test_large_photographs_have_twelve_million_pixels_in_their_own_aspect(tmp_path: Path) -> None:
    small = small_photographs(tmp_path / "small", samples=None)

    large = large_photographs(tmp_path / "large", small, count=2)

    assert len(large.paths) == 2
    for path in large.paths:
        with Image.open(path) as image:
            assert image.width * image.height == pytest.approx(LARGE_PIXELS, rel=1e-3)
            assert image.width / image.height == pytest.approx(500 / 375, rel=1e-3)


@pytest.mark.data
def test_the_sample_photographs_are_used_where_they_are(tmp_path: Path, test_data: Path) -> None:
    small = small_photographs(tmp_path, test_data / "imagenet" / "samples")

    assert len(small.paths) == 100
    assert not list(tmp_path.iterdir())
