"""`fovea datasets`, and what else is sent and fetched, against a real gateway and inference worker."""

import json
import re
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest
from support.colours import LABELS, picture
from support.command import Command, command_against
from support.stack import Stack


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


def colours(folder: Path, seed: int, each: int = 3) -> Path:
    """Class folders of pictures that no other seed has."""
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for n in range(each):
            (folder / label / f"{n}.png").write_bytes(picture(label, noise=1000 * seed + n + 1))
    return folder


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*.png")):
            packed.write(path, path.relative_to(folder))
    return archive


def columns(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_folder_is_packed_sent_checked_and_counted(fovea: Command, tmp_path: Path, stack: Stack) -> None:
    folder = colours(tmp_path / "flags", 1)
    (folder / "red" / "broken.png").write_bytes(picture("red", noise=7)[:200])
    (folder / "red" / "notes.txt").write_text("no picture")
    said = fovea("datasets", "create", folder)
    assert said.code == 0
    assert ["class", "images"] in columns(said.out)
    assert ["red", "3"] in columns(said.out)
    assert ["together", "9"] in columns(said.out)
    assert re.search(r"^unreadable +red/broken\.png +\w+", said.out, re.MULTILINE)
    assert re.search(r"^not_an_image +red/notes\.txt", said.out, re.MULTILINE)
    found = re.search(r"(ds_\w+) \(flags\) is ready", said.out)
    assert found
    assert httpx.get(f"{stack.url}/v1/datasets/{found[1]}").json()["state"] == "ready"
    assert f"fovea finetune {found[1]} --model" in said.out
    assert re.search(r"^packing .*flags: [\d.]+ kB", said.err, re.MULTILINE)
    assert re.search(r"^sending flags: [\d.]+ kB, [\d.]+ \w?B/s$", said.err, re.MULTILINE)
    assert "checking flags: succeeded" in said.err


def test_splits_are_columns_of_their_own(fovea: Command, tmp_path: Path) -> None:
    for split, seed in (("train", 11), ("val", 12)):
        colours(tmp_path / "split" / split, seed, each=4 if split == "train" else 2)
    said = fovea("datasets", "create", tmp_path / "split", "--name", "two splits")
    assert said.code == 0
    assert ["class", "train", "val"] in columns(said.out)
    assert ["green", "4", "2"] in columns(said.out)
    assert "(two splits) is ready" in said.out


def created(fovea: Command, folder: Path) -> str:
    found = re.search(r"(ds_\w+) \(", fovea("datasets", "create", folder).out)
    assert found
    return found[1]


def test_a_dataset_is_corrected(fovea: Command, tmp_path: Path) -> None:
    first = created(fovea, colours(tmp_path / "first", 61))
    (tmp_path / "more" / "red").mkdir(parents=True)
    (tmp_path / "more" / "red" / "new.png").write_bytes(picture("red", noise=61_999))
    (tmp_path / "changes.csv").write_text("image,label,remove\ngreen/0.png,blue,\ngreen/1.png,,true\n")
    said = fovea(
        *("datasets", "revise", first, "--relabel", "red/0.png=blue", "--remove", "red/1.png"),
        *("--add", tmp_path / "more", "--changes", tmp_path / "changes.csv", "--name", "mended"),
    )
    assert said.code == 0, said.err
    assert ["relabelled", "green", "to", "blue", "1"] in columns(said.out)
    assert ["added", "red", "1"] in columns(said.out)
    assert ["together", "8"] in columns(said.out)
    found = re.search(r"(ds_\w+) \(mended\) is ready", said.out)
    assert found
    assert "sending more" in said.err or "sending dataset" in said.err
    assert ["revision", "2", "of", first] in columns(fovea("datasets", "show", found[1]).out)
    listed = fovea("datasets", "revisions", first).out
    assert [row[:3] for row in columns(listed)[1:]] == [[found[1], "2", first], [first, "1", "first"]]
    again = fovea("datasets", "revise", found[1], "--relabel", "blue/0.png=blue", "--json")
    assert json.loads(again.out)["id"] == found[1]
    assert f"there is a dataset of these images and labels already, {found[1]}" in again.err


def test_changes_that_cannot_be_made_are_told(fovea: Command, tmp_path: Path) -> None:
    first = created(fovea, colours(tmp_path / "first", 62))
    refused = fovea("datasets", "revise", first, "--remove", "red/9.png", "--remove", "0.png")
    assert refused.code == 1
    assert re.search(r"^unknown_image +red/9\.png", refused.out, re.MULTILINE)
    assert re.search(r"^ambiguous_image +0\.png +it means 3 images", refused.out, re.MULTILINE)
    (tmp_path / "bad.jsonl").write_text('{"image": "red/1.png"}\n')
    for wrong, words in (
        ([], "nothing is to be changed"),
        (["--relabel", "red"], "expected IMAGE=LABEL"),
        (["--move", "red/1.png=best"], "expected train, val or test"),
        (["--relabel", "a=b", "--relabel", "a=c"], "keep one"),
        (["--changes", tmp_path / "bad.jsonl"], "nothing to do with it"),
    ):
        said = fovea("datasets", "revise", first, *wrong)
        assert said.code == 2
        assert words in " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_is_sent_as_it_is(fovea: Command, tmp_path: Path, suffix: str) -> None:
    folder = colours(tmp_path / "loose", 21 if suffix == ".zip" else 22)
    archive = tmp_path / f"packed{suffix}"
    if suffix == ".zip":
        zipped(folder, archive)
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(folder, ".")
    said = fovea("datasets", "create", archive, "--json")
    assert said.code == 0
    dataset = json.loads(said.out)
    assert (dataset["name"], dataset["state"], dataset["report"]["images"]) == ("packed", "ready", 9)
    assert "packing" not in said.err


def test_faults_refuse_the_dataset_where_that_was_asked_for(fovea: Command, tmp_path: Path) -> None:
    folder = colours(tmp_path / "strict", 31)
    (folder / "blue" / "bad.jpg").write_bytes(b"\xff\xd8\xff no more")
    said = fovea("datasets", "create", folder, "--on-fault", "refuse")
    assert said.code == 1
    assert re.search(r"^refused: .*blue/bad\.jpg", said.out, re.MULTILINE)
    assert "is refused" in said.out
    assert "fovea finetune" not in said.out


def test_a_single_class_is_refused_with_the_reason(fovea: Command, tmp_path: Path) -> None:
    folder = tmp_path / "one" / "red"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(picture("red", noise=99))
    said = fovea("datasets", "create", tmp_path / "one", "--json")
    assert said.code == 1
    dataset = json.loads(said.out)
    assert dataset["state"] == "refused"
    assert "single_class" in dataset["report"]["faults_by_code"]


def test_the_same_images_again_name_the_dataset_that_has_them(fovea: Command, tmp_path: Path) -> None:
    folder = colours(tmp_path / "twice", 41)
    first = json.loads(fovea("datasets", "create", folder, "--json").out)
    said = fovea("datasets", "create", zipped(folder, tmp_path / "again.zip"))
    assert said.code == 0
    assert f"the same images are there already as {first['id']} (twice)" in said.err
    assert f"fovea finetune {first['id']} " in said.out


def test_what_is_no_dataset_is_said_before_or_after_sending(fovea: Command, tmp_path: Path) -> None:
    missing = fovea("datasets", "create", tmp_path / "nowhere")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.endswith("nowhere: no such folder or archive\n")
    (tmp_path / "empty").mkdir()
    empty = fovea("datasets", "create", tmp_path / "empty")
    assert empty.code == 1
    assert "holds no files" in empty.err
    text = tmp_path / "text.zip"
    text.write_text("this is no archive")
    told = fovea("datasets", "create", text)
    assert told.code == 1
    assert "send a zip, a tar or a tar.gz" in told.err
    torn = tmp_path / "torn.zip"
    torn.write_bytes(b"PK\x03\x04 and no more")
    damaged = fovea("datasets", "create", torn)
    assert damaged.code == 1
    assert "refused: " in damaged.out


def test_datasets_are_listed_shown_reported_and_deleted(fovea: Command, tmp_path: Path) -> None:
    folder = colours(tmp_path / "short-lived", 51)
    for n in range(25):
        (folder / "green" / f"junk-{n:02}.txt").write_text(f"junk {n}")
    dataset = json.loads(fovea("datasets", "create", folder, "--json").out)["id"]
    assert any(row[:3] == [dataset, "short-lived", "ready"] for row in columns(fovea("datasets", "list").out))
    assert dataset not in fovea("datasets", "list", "--search", "nothing like it").out
    shown = fovea("datasets", "show", dataset).out
    assert "3: blue, green, red" in shown
    assert ["images", "9"] in columns(shown)
    short, whole = fovea("datasets", "report", dataset).out, fovea("datasets", "report", dataset, "--all").out
    assert short.count("junk-") == 20
    assert (
        f"20 of 28 faults (25 not_an_image, 3 class_too_small); all: fovea datasets report {dataset} --all"
        in short
    )
    assert whole.count("junk-") == 25
    assert json.loads(fovea("datasets", "report", dataset, "--json").out)["accepted"]
    assert fovea("datasets", "delete", dataset).out == f"{dataset} is deleted\n"
    gone = fovea("datasets", "show", dataset)
    assert gone.code == 1
    assert "404 unknown_dataset" in gone.err


def test_a_version_is_fetched_whole(fovea: Command, tmp_path: Path) -> None:
    said = fovea("models", "download", "colours", "--output", tmp_path)
    assert said.out == f"{tmp_path / 'colours-1.zip'}\n"
    with zipfile.ZipFile(tmp_path / "colours-1.zip") as archive:
        assert archive.testzip() is None
        assert {"model.onnx", "manifest.json"} <= set(archive.namelist())
    assert [path.name for path in tmp_path.iterdir()] == ["colours-1.zip"]


def test_a_download_that_fails_leaves_what_was_there(fovea: Command, tmp_path: Path) -> None:
    target = tmp_path / "kept.zip"
    target.write_bytes(b"earlier")
    said = fovea("models", "download", "colours", 9, "--output", target)
    assert said.code == 1
    assert "404 unknown_version" in said.err
    assert target.read_bytes() == b"earlier"
    nowhere = fovea("models", "download", "colours", "--output", tmp_path / "no" / "folder.zip")
    assert nowhere.code == 1
    assert "cannot be written" in nowhere.err
    assert [path.name for path in tmp_path.iterdir()] == ["kept.zip"]
