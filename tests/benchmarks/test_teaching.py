"""The verdict on finetunes: bars in the median, and the same bits every time."""

import dataclasses
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.teaching import SITUATIONS, FineTune, holds, parse, show

SECONDS = {"at once": 20.0, "first": 10.0, "warm": 6.0, "again": 3.0}


def finetunes(**changed: float) -> list[FineTune]:
    """Three rounds, the last of them slow."""
    return [
        FineTune(situation, slower * seconds, {"training": 1.0}, 0.9, 153, "5eed", plain_s=16.0)
        for slower in (1, 1, 3)
        for situation, seconds in {**SECONDS, **changed}.items()
    ]


def test_bars_hold_in_the_median() -> None:
    assert holds(finetunes())
    assert not holds(finetunes(warm=8.1))
    assert not holds(finetunes(first=15.1))


def test_one_finetune_of_other_bits_is_a_failure() -> None:
    found = finetunes()
    assert not holds([*found[:-1], dataclasses.replace(found[-1], weights="other")])


def test_every_situation_is_shown_with_its_ratio_to_the_plain_script() -> None:
    said = StringIO()
    show(finetunes(), Console(file=said, width=200))
    for situation in SITUATIONS:
        assert situation in said.getvalue()
    assert "0.38 (0.38 to 1.12)" in said.getvalue()
    assert "0.900 of 153" in said.getvalue()


def test_it_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FOVEA_TEST_DATA", "FOVEA_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):
        parse([])
    assert "FOVEA_TEST_DATA names the folder that has hymenoptera.zip" in capsys.readouterr().err
    archive = tmp_path / "a.zip"
    archive.touch()
    assert parse(["--archive", str(archive), "--rounds", "2"]).rounds == 2
