"""`fovea classify --coverage`: a set of classes in place of the best ones."""

import csv
import json
from pathlib import Path

import pytest
from support.colours import picture
from support.command import Command, command_against
from support.stack import Stack

from models.conformal import CONFORMAL, ConformalScores


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def calibrated(stack: Stack) -> None:
    facts = ConformalScores.of([place * 0.25 for place in range(1, 40)]).to_facts()
    stack.publish("models/sure/1/", "sure", findings={CONFORMAL: facts})


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    image = tmp_path / "sky.png"
    image.write_bytes(picture("blue"))
    return image


def test_the_set_is_shown_with_its_coverage(fovea: Command, sky: Path) -> None:
    said = fovea("classify", sky, "-m", "sure", "--coverage", "0.5", "-k", "3")
    assert said.code == 0, said.err
    _, first, last = said.out.splitlines()
    assert "blue" in first
    assert last.strip() == "one class for a coverage of 0.5"
    many = fovea("classify", sky, "-m", "sure", "--coverage", "0.97", "-k", "1")
    assert many.out.splitlines()[-1].strip() == "3 classes for a coverage of 0.97"


def test_of_an_image_of_none_of_the_classes_that_is_said_before_its_set(
    fovea: Command, sky: Path, stack: Stack
) -> None:
    facts = ConformalScores.of([place * 0.25 for place in range(1, 40)]).to_facts()
    nothing_is_known = {"method": "gen", "file": None, "threshold": -1.0}
    stack.publish("models/strange/1/", "strange", findings={CONFORMAL: facts, "unknown": nothing_is_known})
    lines = fovea("classify", sky, "-m", "strange", "--coverage", "0.5").out.splitlines()
    assert "none of these" in lines[1]
    assert "blue" in lines[2]
    assert lines[3].strip() == "one class for a coverage of 0.5"
    plain = fovea("classify", sky, "-m", "strange", "-k", "1").out.splitlines()
    assert ("none of these" in plain[1], "blue" in plain[2]) == (True, True)


def test_json_has_it_beside_the_classes(fovea: Command, sky: Path) -> None:
    (found,) = json.loads(fovea("classify", sky, "-m", "sure", "--coverage", "0.97", "--json").out)["results"]
    assert found["set"]["coverage"] == 0.97
    assert [one["label"] for one in found["set"]["classes"]] == [one["label"] for one in found["classes"]]


def test_a_coverage_that_cannot_be_had_is_told(fovea: Command, sky: Path) -> None:
    said = fovea("classify", sky, "-m", "sure", "--coverage", "0.99")
    assert said.code == 1
    assert "takes at least 99 calibration images, and it has 39, which are good for 0.975" in said.err


def test_a_folder_has_a_column_of_sets(fovea: Command, sky: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    sky.rename(tmp_path / "photos" / "sky.png")
    out = tmp_path / "out.csv"
    said = fovea("classify", tmp_path / "photos", "-m", "sure", "--csv", out, "--coverage", "0.5")
    assert said.code == 0, said.err
    with out.open(newline="", encoding="utf-8") as file:
        assert [row["set"] for row in csv.DictReader(file)] == ["blue"]
