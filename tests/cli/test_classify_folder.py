"""`fovea classify FOLDER --csv`: a job over a whole folder, against a real gateway and inference worker."""

import csv
import json
from pathlib import Path

import pytest
from support.colours import picture
from support.command import Command, command_against
from support.stack import Stack

from cli import classify_folder


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them further down, and a text."""
    photos = tmp_path / "photos"
    (photos / "deep" / "down").mkdir(parents=True)
    (photos / "a.png").write_bytes(picture("red"))
    (photos / "b.png").write_bytes(picture("green"))
    (photos / "deep/down/c.png").write_bytes(picture("blue"))
    (photos / "notes.txt").write_text("no picture")
    (photos / ".hidden.png").write_bytes(picture("red"))
    return photos


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_classified_with_a_line_for_each_file(fovea: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    said = fovea("classify", folder, "--model", "colours", "--csv", out, "--top-k", "2")
    assert said.code == 0, said.err
    assert said.out == f"{out}: 4 images by colours version 1; 1 could not be classified, as their lines say\n"
    found = rows(out)
    assert [(row["path"], row["label"], row["error"]) for row in found] == [
        ("a.png", "red", ""),
        ("b.png", "green", ""),
        ("deep/down/c.png", "blue", ""),
        ("notes.txt", "", "not_an_image"),
    ]
    assert float(found[0]["probability"]) > float(found[0]["probability_2"]) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "photos"]


def test_json_lines_are_written_under_any_name(fovea: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "lines"
    assert fovea("classify", folder, "--jsonl", out).code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["path"] for line in lines] == ["a.png", "b.png", "deep/down/c.png", "notes.txt"]
    assert lines[0]["classes"][0]["label"] == "red"
    assert lines[3]["error"]["code"] == "not_an_image"


def test_what_was_cut_off_goes_on_with_the_same_job(
    fovea: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: Stack
) -> None:
    out = tmp_path / "out.csv"
    with monkeypatch.context() as cut_off:

        def interrupted(*_: object, **__: object) -> None:
            raise classify_folder.Detached("no longer watching; the job goes on")

        cut_off.setattr(classify_folder, "watch_job", interrupted)
        said = fovea("classify", folder, "--csv", out)
    assert (said.code, out.exists()) == (130, False)
    assert said.err.endswith("the job goes on; the same command goes on with it\n")
    memory = json.loads((tmp_path / ".out.csv.begun").read_text())
    before = jobs_of(stack)

    said = fovea("classify", folder, "--csv", out)
    assert said.code == 0
    assert f"going on with {memory['job']}" in said.err
    assert jobs_of(stack) == before
    assert len(rows(out)) == 4
    assert not (tmp_path / ".out.csv.begun").exists()


@pytest.mark.parametrize("change", ["a file", "the model", "fresh"])
def test_another_question_begins_anew(
    fovea: Command, folder: Path, tmp_path: Path, stack: Stack, change: str
) -> None:
    out = tmp_path / "out.csv"
    assert fovea("classify", folder, "--csv", out).code == 0
    job = jobs_of(stack)[0]
    dataset = next(found.request["dataset"] for found in client_jobs(stack) if found.id == job)
    asked = classify_folder.Asked(folder, "colours", 5, "auto")
    question = classify_folder._question(stack.url, asked, out)
    begun = {"question": question, "dataset": dataset, "job": job}
    (tmp_path / ".out.csv.begun").write_text(json.dumps(begun))
    if change == "a file":
        (folder / "d.png").write_bytes(picture("red", noise=7))
    model = "colours:1" if change == "the model" else "colours"
    said = fovea("classify", folder, "-m", model, "--csv", out, *(["--fresh"] if change == "fresh" else []))
    assert said.code == 0
    assert "going on" not in said.err
    assert jobs_of(stack)[0] != job


def test_a_cancelled_job_is_begun_again_on_the_images_that_are_there(
    fovea: Command, folder: Path, tmp_path: Path, stack: Stack
) -> None:
    out = tmp_path / "out.csv"
    assert fovea("classify", folder, "--csv", out).code == 0
    (job, *_) = client_jobs(stack)
    question = classify_folder._question(stack.url, classify_folder.Asked(folder, "colours", 5, "auto"), out)
    begun = {"question": question, "dataset": job.request["dataset"], "job": "job_00000000000000000000000000"}
    (tmp_path / ".out.csv.begun").write_text(json.dumps(begun))
    said = fovea("classify", folder, "--csv", out)
    assert said.code == 0
    assert f"going on with {job.request['dataset']}" in said.err


def test_what_cannot_be_is_told_before_anything_is_sent(
    fovea: Command, folder: Path, tmp_path: Path, stack: Stack
) -> None:
    before = jobs_of(stack)
    out = tmp_path / "out.csv"
    for arguments, told in (
        ([folder, folder, "--csv", out], "got 2 files; with --csv or --jsonl give one folder or archive"),
        ([folder, "--csv", out, "--jsonl", out], "it excludes --jsonl"),
        ([tmp_path / "nothing", "--csv", out], "no such folder or archive"),
        ([folder, "--csv", tmp_path / "no" / "out.csv"], f"there is no folder {tmp_path / 'no'}"),
    ):
        said = fovea("classify", *arguments, "-m", "colours")
        assert said.code in (1, 2)
        assert told in " ".join(said.err.replace("│", " ").split()), said.err
    assert jobs_of(stack) == before


def client_jobs(stack: Stack) -> list:  # type: ignore[type-arg]
    with stack.client() as client:
        return list(client.jobs.list(kind="classify_many"))


def jobs_of(stack: Stack) -> list[str]:
    """Those over whole folders, the newest first."""
    return [job.id for job in client_jobs(stack)]
