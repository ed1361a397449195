"""`fovea classify` against a real gateway and inference worker."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.colours import picture
from support.command import Command, command_against
from support.stack import Stack


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture
def second_model(stack: Stack) -> Iterator[None]:
    stack.publish("models/shades/1/", "shades")
    yield
    with stack.registry() as registry:
        registry.delete_model("shades")


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    image = tmp_path / "sky.png"
    image.write_bytes(picture("blue"))
    return image


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_an_image_is_classified_by_name_and_as_a_table(fovea: Command, tmp_path: Path) -> None:
    image = tmp_path / "sky.png"
    image.write_bytes(picture("blue"))
    said = fovea("classify", image, "--model", "colours", "--top-k", "2")
    assert said.code == 0
    _, first, second = said.out.splitlines()
    assert cells(first)[:2] == [str(image), "blue"]
    assert "█" in first
    assert float(cells(first)[-1].removesuffix(" %")) > 50
    assert str(image) not in second


def test_one_broken_file_among_many_leaves_the_others_classified(fovea: Command, tmp_path: Path) -> None:
    for name, content in (("a.png", picture("red")), ("b.png", b"\x89PNG\r\n\x1a\n"), ("c.png", picture("green"))):
        (tmp_path / name).write_bytes(content)
    said = fovea("classify", *(tmp_path / name for name in ("a.png", "b.png", "c.png")), "-m", "colours", "--json")
    assert said.code == 1
    a, b, c = json.loads(said.out)["results"]
    assert (a["classes"][0]["label"], c["classes"][0]["label"]) == ("red", "green")
    assert b["error"]["code"] == "image_unreadable"


def test_the_only_model_is_used_and_named(fovea: Command, sky: Path) -> None:
    said = fovea("classify", sky, "--top-k", "1")
    assert said.code == 0
    assert said.err == "by colours version 1, the only model\n"
    assert "blue" in said.out
    (result,) = json.loads(fovea("classify", sky, "--json").out)["results"]
    assert (result["model"], result["version"], result["classes"][0]["label"]) == ("colours", 1, "blue")
    assert fovea("classify", sky, "-m", "colours").err == ""


@pytest.mark.usefixtures("second_model")
def test_of_several_models_none_is_guessed(fovea: Command, sky: Path) -> None:
    said = fovea("classify", sky)
    assert (said.code, said.out) == (1, "")
    assert "name one with -m: colours, shades" in said.err
    assert fovea("classify", sky, "-m", "shades").code == 0


def test_without_a_model_the_ways_to_one_are_named(
    tmp_path: Path, sky: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Stack(tmp_path / "empty")
    empty.folder.mkdir()
    try:
        empty.start("gateway")
        said = command_against(empty.url, capsys, monkeypatch)("classify", sky)
    finally:
        empty.stop()
    assert (said.code, said.out) == (1, "")
    assert "there is no model yet" in said.err
    assert "fovea models publish" in said.err


def test_a_folder_and_a_url_are_told_from_files_and_the_others_classified(
    fovea: Command, sky: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "summer 2026"
    folder.mkdir()
    shutil.copy(sky, folder)
    said = fovea("classify", "-m", "colours", folder, "https://example.org/shark.jpg?large=1", sky)
    assert said.code == 1
    of_folder, of_url = said.err.splitlines()
    assert of_folder == (
        f"{folder}: is a folder; to classify all of it: fovea classify '{folder}' --csv results.csv (not_a_file)"
    )
    assert of_url == (
        "https://example.org/shark.jpg?large=1: is a URL, and only files are taken; fetch it first: "
        "curl -sL 'https://example.org/shark.jpg?large=1' | fovea classify - (not_a_file)"
    )
    assert "blue" in said.out


def test_why_is_drawn_beside_the_classes(fovea: Command, tmp_path: Path, sky: Path) -> None:
    said = fovea("classify", sky, "-m", "colours", "--explain", tmp_path / "out.png")
    assert said.code == 0
    assert f"{tmp_path / 'out.png'}: blue by occlusion" in said.out
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (256, 213)


def test_of_several_images_each_has_a_drawing_of_its_own(fovea: Command, tmp_path: Path, sky: Path) -> None:
    (tmp_path / "rose.png").write_bytes(picture("red"))
    (tmp_path / "torn.png").write_bytes(picture("red")[:60])
    files = [sky, tmp_path / "rose.png", tmp_path / "torn.png"]
    said = fovea("classify", *files, "-m", "colours", "--explain", tmp_path / "out.png", "--json")
    first, second, torn = json.loads(said.out)["results"]
    assert said.code == 1
    assert [one["explained"]["class"] for one in (first, second)] == ["blue", "red"]
    assert (tmp_path / "out-sky.png").is_file()
    assert second["explained"]["file"] == str(tmp_path / "out-rose.png")
    assert torn["error"]["code"] == "image_unreadable"
    assert not (tmp_path / "out-torn.png").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sky.png", "--explain", "out.jpg"], "name such as out.png"),
        (["sky.png", "--explain", "nowhere/out.png"], "no folder nowhere"),
        (["sky.png", "--explain", "sky.png"], "is one of the images"),
        (["sky.png", "a/sky.jpg", "--explain", "out.png"], "into out-sky.png"),
        (["sky.png", "--explain", "out.png", "--csv", "a.csv"], "excludes --csv"),
    ],
)
def test_a_drawing_that_cannot_be_written_is_told_before_anything_is_sent(
    fovea: Command, sky: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(sky.parent)
    said = fovea("classify", *arguments, "-m", "colours")
    assert said.code != 0
    assert reason in re.sub(r"[\s│]+", " ", said.err)
