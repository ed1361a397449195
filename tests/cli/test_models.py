"""`fovea models` against a real gateway and inference worker."""

import json
import re
from pathlib import Path

import pytest
from support.command import Command, command_against
from support.model_files import onnx_file
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


def test_filters_of_a_version_that_nobody_looked_at_are_told_to_be_missing(fovea: Command, tmp_path: Path) -> None:
    said = fovea("models", "filters", "colours", "--out", tmp_path / "filters")
    assert said.code != 0
    assert "Nobody looked at the filters of version 1" in said.err
    assert not (tmp_path / "filters").exists()


def test_an_alias_is_rolled_back_to_what_it_was_before_and_no_further(fovea: Command, stack: Stack) -> None:
    for number in (1, 2, 3):
        stack.publish(f"models/history/{number}/", "history")
    for version in (3, 1):
        said = fovea("models", "promote", "history", version)
        assert said.out == f"history@production is version {version}\n"
    shown = json.loads(fovea("models", "show", "history", "--json").out)
    assert [version["version"] for version in shown["items"]] == [3, 2, 1]
    assert shown["aliases"]["production"] == 1
    assert fovea("models", "rollback", "history").out == "history@production is version 3 again (was 1)\n"
    again = fovea("models", "rollback", "history")
    assert again.code == 1
    assert "409 no_earlier_version" in again.err
    missing = fovea("models", "rollback", "history", "--alias", "candidate")
    assert "404 unknown_alias" in missing.err
    first, blank, header, undone, standing = fovea("models", "alias", "history", "production").out.splitlines()
    assert first == "history@production is version 3; there is nothing to roll back to"
    assert (blank, cells(header)) == ("", ["version", "set", "rolled back"])
    assert (len(cells(undone)), len(cells(standing))) == (3, 2)
    assert (cells(undone)[0], cells(standing)[0]) == ("1", "3")


def test_aliases_are_set_listed_and_deleted(fovea: Command, stack: Stack) -> None:
    stack.publish("models/named/1/", "named")
    assert fovea("models", "alias", "named").out == (
        "named has no alias; set one: fovea models alias named production VERSION\n"
    )
    assert fovea("models", "alias", "named", "canary", 1).out == "named@canary is version 1\n"
    assert [cells(line) for line in fovea("models", "alias", "named").out.splitlines()] == [
        ["alias", "version"],
        ["canary", "1"],
    ]
    assert json.loads(fovea("models", "alias", "named", "--json").out) == {"canary": 1}
    assert fovea("models", "alias", "named", "canary", "--delete").out == "named@canary is deleted\n"
    gone = fovea("models", "alias", "named", "canary", "--delete")
    assert (gone.code, "404 unknown_alias" in gone.err) == (1, True)
    for wrong in (("--delete",), ("canary", 1, "--delete")):
        assert fovea("models", "alias", "named", *wrong).code == 2


def test_what_an_alias_points_at_is_deleted_only_by_force(fovea: Command, stack: Stack) -> None:
    for number in (1, 2, 3):
        stack.publish(f"models/unwanted/{number}/", "unwanted")
    fovea("models", "promote", "unwanted", 2)
    for what in ((), (2,)):
        refused = fovea("models", "delete", "unwanted", *what)
        assert refused.code == 1
        assert "409 in_use" in refused.err
        assert "production" in refused.err
        assert "`force`" in refused.err
    assert fovea("models", "delete", "unwanted", 1).out == "unwanted version 1 is deleted\n"
    assert fovea("models", "delete", "unwanted", 2, "--force").out == "unwanted version 2 is deleted\n"
    fovea("models", "promote", "unwanted", 3)
    assert fovea("models", "delete", "unwanted", "--force", "--yes").out == "unwanted is deleted\n"
    assert "404 unknown_model" in fovea("models", "show", "unwanted").err


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
    assert fovea("jobs", "cancel", job[1]).out == f"{job[1]} is cancelled; it was waiting for a worker\n"


def test_a_file_is_published_with_what_is_said_of_it(fovea: Command, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_file())
    (tmp_path / "labels.txt").write_text("ant\nbee\ncrane\n")
    (tmp_path / "view.json").write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}')
    said = fovea(
        "models", "publish", "sent", "--file", tmp_path / "net.onnx", "--labels", tmp_path / "labels.txt",
        "--preprocessing", f"@{tmp_path / 'view.json'}", "--no-wait", "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    upload = json.loads(said.out)["request"]["upload"]
    assert (upload["name"], upload["kind"]) == ("net.onnx", "onnx")
    assert upload["labels"] == ["ant", "bee", "crane"]
    assert upload["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    imagenet = fovea(
        "models", "publish", "sent", "--file", tmp_path / "net.onnx", "--preprocessing", "imagenet", "--no-wait",
    )  # fmt: skip
    assert "is queued; watch it: fovea jobs watch job_" in imagenet.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say what to publish: --architecture A, or --file FILE"),
        (("--architecture", "lenet5", "--labels", "imagenet"), "--labels says something of a file"),
        (("--file", "net.onnx", "--weights", "imagenet"), "a file brings its own weights"),
        (("--file", "net.onnx", "--labels", "absent.txt"), "absent.txt cannot be read"),
        (("--file", "net.onnx", "--preprocessing", "{"), "is not JSON"),
        (("--file", "absent.onnx"), "absent.onnx"),
        (("--file", "net.onnx", "--architecture", "lenet5"), "an ONNX file holds its network itself"),
    ],
)
def test_what_does_not_go_together_is_told(
    fovea: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_file())
    monkeypatch.chdir(tmp_path)
    ended = fovea("models", "publish", "sent", *options, "--no-wait")
    assert ended.code != 0
    assert said in " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.err).split())


def test_a_model_is_described_and_found_by_its_tags(fovea: Command, stack: Stack) -> None:
    stack.publish("models/described/1/", "described")
    said = fovea(
        "models", "describe", "described", "-d", "Colours, two of them.", "--tag", "team:art", "--tag", "a"
    )
    assert said.out == "described  a, team:art\nColours, two of them.\n"
    header, line = fovea("models", "list", "--tag", "team:art").out.splitlines()
    assert cells(header) == ["model", "latest", "aliases", "tags", "updated"]
    assert "a, team:art" in line
    shown = fovea("models", "show", "described").out
    assert "tags: a, team:art" in shown
    assert "Colours, two of them." in shown
    assert fovea("models", "list", "--search", "nothing-like-it").out == "No such model.\n"
    assert fovea("models", "describe", "described", "-d", "", "--tag", "").out == (
        "described  no tags\nno description\n"
    )
    assert "422 invalid_request" in fovea("models", "describe", "described", "--tag", "NO").err
