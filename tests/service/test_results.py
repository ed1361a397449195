"""Lines of results as a spreadsheet may open them, and what is left of them where some are lost."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from service.results import as_csv, classes_of, csv_of, harmless, stored_results
from storage.blobs import BlobStore
from storage.database import migrate, open_database
from storage.errors import NotFound
from storage.job_ledger import Job, JobLedger, JobState
from workers.contract.evaluations import ChunkHead, answer_line, answers_key, write_chunk
from workers.contract.messages import ClassScore, UnknownScore
from workers.contract.results import chunk_key, result_line


def rows_of(chunks: list[bytes], classes: int) -> list[list[str]]:
    text = b"".join(as_csv(chunks, classes)).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_row_has_the_best_class_the_next_ones_and_what_was_wrong() -> None:
    chunk = result_line("a.png", [ClassScore(0, "red", 0.75), ClassScore(1, "green", 0.25)], None)
    other = result_line('b,"b.png', None, {"code": "image_unreadable", "detail": "it is\ncut off"})
    assert rows_of(
        [
            chunk + other,
            result_line(None, [ClassScore(0, "red", 1.2e-7)], None, unknown=UnknownScore(7.5, 2, True)),
        ],
        3,
    ) == [
        [
            "path",
            "label",
            "probability",
            "label_2",
            "probability_2",
            "label_3",
            "probability_3",
            "error",
            "detail",
            "is_unknown",
            "unknown_score",
        ],
        ["a.png", "red", "0.75", "green", "0.25", "", "", "", "", "", ""],
        ['b,"b.png', "", "", "", "", "", "", "image_unreadable", "it is\ncut off", "", ""],
        ["", "red", "1.2e-07", "", "", "", "", "", "", "true", "7.5"],
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_cell_is_a_formula(begin: str) -> None:
    name = f"{begin}cmd|' /C calc'!A0"
    assert harmless(name) == f"'{name}"
    (_, row) = rows_of([result_line(name, [ClassScore(0, name, 1.0)], None)], 1)
    assert (row[0], row[1]) == (f"'{name}", f"'{name}")
    (_, row) = rows_of([result_line("a", None, {"code": "x", "detail": name})], 1)
    assert row[-3] == f"'{name}"


def test_what_begins_no_formula_stays_as_it_is() -> None:
    assert [harmless(text) for text in ("a=b", "'", "", "Ærø")] == ["a=b", "'", "", "Ærø"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """One of three chunks of two images each, which has succeeded."""
    migrate(f"sqlite:///{tmp_path}/fovea.db")
    database = open_database(f"sqlite:///{tmp_path}/fovea.db")
    ledger = JobLedger(database)
    made = ledger.create("classify_many", {"model": "m", "version": 1, "top_k": 4, "prefix": "", "chunk": 2})
    attempt = ledger.take(made.id, "w", 30)
    assert attempt is not None
    ledger.succeed(attempt, {"model": "m", "version": 1, "provider": "", "images": 5})
    ended = ledger.get(made.id)
    database.close()
    return ended


def put(blobs: BlobStore, job: Job, *numbers: int) -> None:
    for number in numbers:
        blobs.put_bytes(chunk_key(job.id, number), result_line(f"{number}", [], None))


def paths(chunks: Iterable[bytes]) -> str:
    return "".join(json.loads(chunk)["path"] for chunk in chunks)


def test_all_chunks_of_a_job_that_succeeded_are_sent_in_their_order(job: Job, tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    put(blobs, job, 2, 0, 1)
    assert paths(stored_results(blobs, job)) == "012"
    assert classes_of(job) == 4


def test_a_chunk_that_is_lost_is_told_before_anything_is_sent(job: Job, tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    put(blobs, job, 0, 2)
    with pytest.raises(NotFound, match="000001"):
        stored_results(blobs, job)


def test_of_a_job_that_goes_on_the_lines_without_a_gap_are_sent(job: Job, tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    running = replace(job, state=JobState.RUNNING, result=None)
    assert paths(stored_results(blobs, running)) == ""
    put(blobs, job, 0, 2)
    blobs.put_bytes(f"jobs/{job.id}/results/stray.txt", b"x")
    assert paths(stored_results(blobs, running)) == "0"


@pytest.fixture
def evaluation(job: Job) -> Job:
    """Of three images and two versions, two images in a chunk."""
    models = [{"model": "m", "version": n, "reference": "m"} for n in (2, 1)]
    request = {"models": models, "dataset": "ds_1", "chunk": 2}
    result = {"dataset": "ds_1", "split": "all", "images": 3, "versions": []}
    return replace(job, kind="evaluate", request=request, result=result)


def put_answers(blobs: BlobStore, job: Job, *, leave_out: tuple[int, int] | None = None) -> None:
    """The second version is wrong on the last image."""
    for version in (0, 1):
        for chunk, images in enumerate(("ab", "c")):
            lines = [
                answer_line(
                    f"={image}", "ant", predicted="bee" if (version, image) == (1, "c") else "ant", probability=0.5
                )
                for image in images
            ]
            if (version, chunk) != leave_out:
                blobs.put_bytes(answers_key(job.id, version, chunk), write_chunk(ChunkHead("int8", "CPU"), lines))


def test_an_evaluation_has_a_line_for_each_image_with_every_versions_answer(
    evaluation: Job, tmp_path: Path
) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    put_answers(blobs, evaluation)
    lines = [json.loads(line) for chunk in stored_results(blobs, evaluation) for line in chunk.splitlines()]
    assert [(line["path"], [a["label"] for a in line["answers"]]) for line in lines] == [
        ("=a", ["ant", "ant"]), ("=b", ["ant", "ant"]), ("=c", ["ant", "bee"])
    ]  # fmt: skip
    differing = stored_results(blobs, evaluation, only_differing=True)
    text = b"".join(csv_of(differing, evaluation)).decode()
    columns = ("label", "probability", "error")
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["path", "label", *(f"{version} {column}" for version in ("m:2", "m:1") for column in columns)],
        ["'=c", "ant", "ant", "0.5", "", "bee", "0.5", ""],
    ]


@pytest.mark.parametrize("lost", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_of_an_evaluation_those_lines_are_there_that_every_version_has(
    evaluation: Job, tmp_path: Path, lost: tuple[int, int]
) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    put_answers(blobs, evaluation, leave_out=lost)
    with pytest.raises(NotFound, match=f"{lost[0]}/{lost[1]:06d}"):
        stored_results(blobs, evaluation)
    running = replace(evaluation, state=JobState.RUNNING, result=None)
    assert len(list(stored_results(blobs, running))) == lost[1]
