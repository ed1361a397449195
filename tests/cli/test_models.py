"""`fovea models` and `fovea classify` against a real gateway and inference worker."""

import json
import re
from pathlib import Path

import pytest
from support.colours import picture
from support.command import Command, command_against
from support.stack import Stack


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_models_are_listed_with_their_aliases(fovea: Command) -> None:
    said = fovea("models", "list")
    header, colours = said.out.splitlines()
    assert cells(header) == ["model", "latest", "aliases", "updated"]
    assert cells(colours)[:2] == ["colours", "1"]
    assert json.loads(fovea("models", "list", "--json").out)[0]["name"] == "colours"


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


def test_an_alias_is_promoted_and_rolled_back(fovea: Command, stack: Stack) -> None:
    stack.publish()
    assert fovea("models", "promote", "colours", 2).out == "colours@production is version 2\n"
    shown = json.loads(fovea("models", "show", "colours", "--json").out)
    assert [version["version"] for version in shown["items"]] == [2, 1]
    assert shown["aliases"]["production"] == 2
    assert fovea("models", "rollback", "colours").out == "colours@production is version 1 again (was 2)\n"
    again = fovea("models", "rollback", "colours")
    assert again.code == 1
    assert "no earlier one exists" in again.err
    missing = fovea("models", "rollback", "colours", "--alias", "candidate")
    assert "fovea models promote colours VERSION" in missing.err


def test_a_promotion_to_a_version_that_is_not_there_is_refused(fovea: Command) -> None:
    said = fovea("models", "promote", "colours", 99)
    assert said.code == 1
    assert "colours:99" in said.err


def test_publishing_what_the_zoo_has_not_names_what_it_has(fovea: Command) -> None:
    said = fovea("models", "publish", "new", "--architecture", "resnet999")
    assert said.code == 1
    assert "resnet18" in said.err
    assert said.err.count("\n") == 1


def test_a_publication_need_not_be_waited_for(fovea: Command) -> None:
    said = fovea("models", "publish", "new", "--architecture", "lenet5", "--weights", "none", "--no-wait")
    job = re.match(r"(job_\w+) is queued; watch it: fovea jobs watch \1$", said.out)
    assert job
    assert fovea("jobs", "cancel", job[1]).out == f"{job[1]} cancelled\n"
