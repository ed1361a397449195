"""Lines of results as a spreadsheet may open them, and what is left of them where some are lost."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from service.results import as_csv, classes_of, harmless, stored_results
from storage.blobs import BlobStore
from storage.database import migrate, open_database
from storage.errors import NotFound
from storage.job_ledger import Job, JobLedger, JobState
from workers.contract.messages import ClassScore
from workers.contract.results import chunk_key, result_line


def rows_of(chunks: list[bytes], classes: int) -> list[list[str]]:
    text = b"".join(as_csv(chunks, classes)).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_row_has_the_best_class_the_next_ones_and_what_was_wrong() -> None:
    chunk = result_line("a.png", [ClassScore(0, "red", 0.75), ClassScore(1, "green", 0.25)], None)
    other = result_line('b,"b.png', None, {"code": "image_unreadable", "detail": "it is\ncut off"})
    assert rows_of([chunk + other, result_line(None, [ClassScore(0, "red", 1.2e-7)], None)], 3) == [
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
        ],
        ["a.png", "red", "0.75", "green", "0.25", "", "", "", ""],
        ['b,"b.png', "", "", "", "", "", "", "image_unreadable", "it is\ncut off"],
        ["", "red", "1.2e-07", "", "", "", "", "", ""],
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_cell_is_a_formula(begin: str) -> None:
    name = f"{begin}cmd|' /C calc'!A0"
    assert harmless(name) == f"'{name}"
    (_, row) = rows_of([result_line(name, [ClassScore(0, name, 1.0)], None)], 1)
    assert (row[0], row[1]) == (f"'{name}", f"'{name}")
    (_, row) = rows_of([result_line("a", None, {"code": "x", "detail": name})], 1)
    assert row[-1] == f"'{name}"


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
