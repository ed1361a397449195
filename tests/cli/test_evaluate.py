"""`fovea evaluate` against a real gateway and inference worker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.colours import LABELS, picture
from support.command import Command, command_against
from support.stack import Stack, running_stack


@pytest.fixture(scope="module")
def hues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Fovea with a model `hues`, whose second version takes red for green."""
    with running_stack(tmp_path_factory.mktemp("hues")) as service:
        service.publish("models/hues/1/", model="hues")
        service.publish("models/hues/2/", model="hues", labels=("green", "red", "blue"))
        yield service


@pytest.fixture
def fovea(hues: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(hues.url, capsys, monkeypatch)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, colour in enumerate(6 * LABELS):
        (folder / colour).mkdir(parents=True, exist_ok=True)
        (folder / colour / f"{number}.png").write_bytes(picture(colour, noise=number + 1))
    return folder


def test_two_versions_are_measured_on_a_folder_and_the_better_is_named(
    fovea: Command, photos: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.html"
    said = fovea("evaluate", "hues:1", "hues@latest", photos, "--split", "all", "--output", card)
    assert said.code == 0, said.err
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0] == ["hues:1", "hues:2"]
    assert ["images", "18", "18"] in rows
    assert ["accuracy", "100.0", "%", "33.3", "%"] in rows
    assert "hues:1 is right more often than hues:2: of 18 images hues:1 alone gets 12 right" in said.out
    assert "On 12 of 18 images they differ." in said.out
    assert "warning: hues:1 may have learnt from some of these images" in said.err
    assert "<title>hues:1 and hues:2</title>" in card.read_text("utf-8")


def test_one_version_is_measured_alone_as_json(fovea: Command, photos: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    said = fovea("evaluate", "hues:1", photos, "--precision", "float32", "--json", "-o", card)
    last = json.loads(said.out.splitlines()[-1])
    assert (last["state"], last["result"]["versions"][0]["accuracy"], last["result"]["comparisons"]) == (
        "succeeded", 1.0, []
    )  # fmt: skip
    assert card.read_text("utf-8").startswith("# hues:1\n")


def test_it_need_not_be_waited_for(fovea: Command, photos: Path) -> None:
    dataset = json.loads(fovea("datasets", "create", photos, "--json").out)["id"]
    said = fovea("evaluate", "hues:1", dataset, "--no-wait")
    assert said.out.startswith("job_")
    assert "watch it: fovea jobs watch job_" in said.out
    refused = fovea("evaluate", "hues:1", dataset, "--no-wait", "--output", "card.html")
    assert (refused.code, "before the job has ended" in refused.err) == (2, True)


def test_a_misspelt_model_is_told_before_anything_is_sent(fovea: Command, photos: Path) -> None:
    before = fovea("datasets", "list", "--json").out
    said = fovea("evaluate", "hues:1", "huse@production", photos)
    assert (said.code, "huse" in said.err) == (1, True)
    assert fovea("datasets", "list", "--json").out == before
    assert "no folder or archive of that name" in fovea("evaluate", "hues", "nowhere").err
    assert fovea("evaluate", "hues").code == 2
