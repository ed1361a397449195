"""The share of the interactive rate that a bulk job reaches, and the images that it is given."""

from pathlib import Path

import pytest

from benchmarks.bulk import fill_images
from benchmarks.bulk_rate import LEAST, Rate, Round, parse


def test_the_ratio_is_that_of_bulk_to_interactive() -> None:
    one = Round(interactive=Rate(200.0, 8.0, 0.0), bulk=Rate(180.0, 9.0, 0.1))
    assert one.ratio == pytest.approx(LEAST)


def test_a_folder_has_as_many_images_as_are_wanted(tmp_path: Path) -> None:
    photographs = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for path in photographs:
        path.write_bytes(path.name.encode())
    fill_images(tmp_path / "images" / "bench", photographs, 5)
    found = sorted((tmp_path / "images" / "bench").iterdir())
    assert [path.name for path in found] == [f"{number:06d}.jpg" for number in range(5)]
    assert [path.read_bytes() for path in found] == [b"a.jpg", b"b.jpg", b"a.jpg", b"b.jpg", b"a.jpg"]
    # Copies, for what is classified may be on another disk than the photographs.
    assert photographs[0].stat().st_nlink == 1


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--seconds", "-1"], ["--images", "0"], ["--model"]])
def test_what_cannot_be_measured_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(wrong)
