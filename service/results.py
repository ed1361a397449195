"""The results of a job that classified images, line by line: as JSON Lines, or as CSV that a spreadsheet may open.

Nothing is gathered: a file of results is read when its lines are to be sent.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from storage.blobs import BlobStore
from storage.errors import NotFound
from storage.job import Job, JobState
from workers.contract.jobs import ClassifyManyRequest, ClassifyManyResult, read_request
from workers.contract.messages import ClassScore
from workers.contract.queues import JobKind
from workers.contract.results import (
    chunk_key,
    chunk_number,
    count_chunks,
    read_lines,
    result_line,
    results_folder,
)

JSON_LINES = "application/jsonl"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
MEDIA_TYPES = (JSON_LINES, NDJSON, CSV)
KINDS = (JobKind.CLASSIFY, JobKind.CLASSIFY_MANY)

# With one of these at its begin a cell is a formula to Excel, LibreOffice or Google Sheets.
FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Chunks = Iterable[bytes]


def stored_results(blobs: BlobStore, job: Job) -> Chunks:
    """The job's results, some lines at a time: all of one that succeeded, of others those that are there.

    The lines that another job has so far stay where they are when more follow. Raises NotFound for a file of
    results that is gone, and BlobsUnavailable, now or while it is iterated.
    """
    if job.kind == JobKind.CLASSIFY:
        return _of_row(job.result or {})
    chunks = _count_stored(blobs, job.id)
    if job.state is JobState.SUCCEEDED:
        images = ClassifyManyResult.model_validate(job.result).images
        expected = count_chunks(images, read_request(ClassifyManyRequest, job.request).chunk)
        if chunks < expected:
            raise NotFound("file", chunk_key(job.id, chunks))
    return (blobs.get_bytes(chunk_key(job.id, number)) for number in range(chunks))


def classes_of(job: Job) -> int:
    """How many classes a line of the job has at most."""
    if job.kind == JobKind.CLASSIFY:
        predictions = (job.result or {}).get("predictions", ())
        return max((len(prediction["classes"] or ()) for prediction in predictions), default=0)
    return read_request(ClassifyManyRequest, job.request).top_k


def as_csv(chunks: Chunks, classes: int) -> Iterator[bytes]:
    """The same with a header line, as RFC 4180 writes it: `path`, the best class with its probability, the next
    ones, and what was wrong where there are none."""
    yield _csv([_header(classes)])
    for chunk in chunks:
        yield _csv([_row(line, classes) for line in read_lines(chunk)])


def harmless(text: str) -> str:
    """Text as a cell that no spreadsheet computes: with an apostrophe before what would begin a formula.

    A path or a label may come from a stranger (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    return f"'{text}" if text.startswith(FORMULA_BEGINS) else text


def _count_stored(blobs: BlobStore, job_id: str) -> int:
    """How many files there are from the first one on without a gap."""
    numbers = {chunk_number(key) for key in blobs.list(results_folder(job_id))}
    count = 0
    while count in numbers:
        count += 1
    return count


def _of_row(result: Mapping[str, Any]) -> Iterator[bytes]:
    """Of a job whose result is in its row."""
    for prediction in result.get("predictions", ()):
        found = prediction["classes"]
        classes = None if found is None else [ClassScore(**score) for score in found]
        yield result_line(prediction["name"], classes, prediction["error"])


def _header(classes: int) -> list[str]:
    columns = ["path", "label", "probability"]
    for place in range(2, classes + 1):
        columns += [f"label_{place}", f"probability_{place}"]
    return [*columns, "error", "detail"]


def _row(line: Mapping[str, Any], classes: int) -> list[str]:
    found = line["classes"] or ()
    cells = [harmless(line["path"] or "")]
    for place in range(max(classes, 1)):
        score = found[place] if place < len(found) else None
        cells += [harmless(score["label"]), f"{score['probability']:.6g}"] if score else ["", ""]
    error = line["error"] or {}
    return [*cells, harmless(error.get("code") or ""), harmless(error.get("detail") or "")]


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()
