"""The results of a job, a line for each image that it classified: JSON Lines, or CSV that a spreadsheet may open.

Nothing is gathered: a file of results is read when its lines are to be sent.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from storage.blobs import BlobStore
from storage.errors import NotFound
from storage.job import Job, JobState
from workers.contract.evaluations import answers_key, merged, read_chunk
from workers.contract.jobs.classify import ClassifyRequest
from workers.contract.jobs.classify_many import ClassifyManyRequest, ClassifyManyResult
from workers.contract.jobs.evaluate import EvaluateRequest, EvaluateResult
from workers.contract.jobs.kinds import read_request
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
KINDS = (JobKind.CLASSIFY, JobKind.CLASSIFY_MANY, JobKind.EVALUATE)

# With one of these at its begin a cell is a formula to Excel, LibreOffice or Google Sheets.
FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

# Between the labels of a set in a cell.
SEPARATOR = "; "
ANSWER_COLUMNS = ("label", "probability", "error")

Chunks = Iterable[bytes]


def stored_results(blobs: BlobStore, job: Job, *, only_differing: bool = False) -> Chunks:
    """The job's results, some lines at a time: all of one that succeeded, of others those that are there.

    The lines that another job has so far stay where they are when more follow. With `only_differing` an evaluation
    has those alone on which not all versions say the same. Raises NotFound for a file of results that is gone, and
    BlobsUnavailable, now or while it is iterated.
    """
    if job.kind == JobKind.CLASSIFY:
        return _of_row(job.result or {})
    if job.kind == JobKind.EVALUATE:
        return _of_evaluation(blobs, job, only_differing)
    chunks = _count_stored(blobs, job.id)
    if job.state is JobState.SUCCEEDED:
        images = ClassifyManyResult.model_validate(job.result).images
        expected = count_chunks(images, read_request(ClassifyManyRequest, job.request).chunk)
        if chunks < expected:
            raise NotFound("file", chunk_key(job.id, chunks))
    return (blobs.get_bytes(chunk_key(job.id, number)) for number in range(chunks))


def csv_of(chunks: Chunks, job: Job) -> Iterator[bytes]:
    """The job's results with a header line, as RFC 4180 writes it."""
    if job.kind != JobKind.EVALUATE:
        return as_csv(chunks, classes_of(job), with_sets=_has_sets(job))
    names = [asked.name for asked in read_request(EvaluateRequest, job.request).models]
    return _evaluation_csv(chunks, names)


def classes_of(job: Job) -> int:
    """How many classes a line of the job has at most."""
    if job.kind == JobKind.CLASSIFY:
        predictions = (job.result or {}).get("predictions", ())
        return max((len(prediction["classes"] or ()) for prediction in predictions), default=0)
    return read_request(ClassifyManyRequest, job.request).top_k


def as_csv(chunks: Chunks, classes: int, *, with_sets: bool = False) -> Iterator[bytes]:
    """Of images that were classified: `path`, the best class with its probability, the next ones, what was wrong
    where there are none, and the labels of the set."""
    yield _csv([[*_header(classes), *(["set"] if with_sets else [])]])
    for chunk in chunks:
        lines = read_lines(chunk)
        yield _csv([_row(line, classes) + ([_labels_of_set(line)] if with_sets else []) for line in lines])


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
        yield result_line(
            prediction["name"],
            classes,
            prediction["error"],
            found_set=prediction.get("set"),
            unknown=prediction.get("unknown"),
        )


def _of_evaluation(blobs: BlobStore, job: Job, only_differing: bool) -> Chunks:
    """A chunk at a time of all versions, as far as each of them has it."""
    request = read_request(EvaluateRequest, job.request)
    places = range(len(request.models))
    stored = set(blobs.list(results_folder(job.id)))
    chunks = 0
    while all(answers_key(job.id, place, chunks) in stored for place in places):
        chunks += 1
    if job.state is JobState.SUCCEEDED:
        expected = count_chunks(EvaluateResult.model_validate(job.result).images, request.chunk)
        if chunks < expected:
            missing = (answers_key(job.id, place, chunks) for place in places)
            raise NotFound("file", next(key for key in missing if key not in stored))

    def lines(chunk: int) -> bytes:
        versions = [read_chunk(blobs.get_bytes(answers_key(job.id, place, chunk)))[1] for place in places]
        found = merged(versions, only_differing=only_differing)
        return b"".join(orjson.dumps(line) + b"\n" for line in found)

    return map(lines, range(chunks))


def _evaluation_csv(chunks: Chunks, versions: Sequence[str]) -> Iterator[bytes]:
    """`path`, `label`, and what each version answered."""
    yield _csv([["path", "label", *(f"{version} {what}" for version in versions for what in ANSWER_COLUMNS)]])
    for chunk in chunks:
        yield _csv([_answers_row(line) for line in read_lines(chunk)])


def _answers_row(line: Mapping[str, Any]) -> list[str]:
    cells = [harmless(line["path"]), harmless(line["label"])]
    for answer in line["answers"]:
        probability, error = answer["probability"], answer["error"] or {}
        cells += [
            harmless(answer["label"] or ""),
            "" if probability is None else f"{probability:.6g}",
            harmless(error.get("code") or ""),
        ]
    return cells


def _has_sets(job: Job) -> bool:
    if job.kind == JobKind.CLASSIFY:
        return read_request(ClassifyRequest, job.request).coverage is not None
    return read_request(ClassifyManyRequest, job.request).coverage is not None


def _labels_of_set(line: Mapping[str, Any]) -> str:
    found = line.get("set") or {"classes": ()}
    return harmless(SEPARATOR.join(score["label"] for score in found["classes"]))


def _header(classes: int) -> list[str]:
    columns = ["path", "label", "probability"]
    for place in range(2, classes + 1):
        columns += [f"label_{place}", f"probability_{place}"]
    return [*columns, "error", "detail", "is_unknown", "unknown_score"]


def _row(line: Mapping[str, Any], classes: int) -> list[str]:
    found = line["classes"] or ()
    cells = [harmless(line["path"] or "")]
    for place in range(max(classes, 1)):
        score = found[place] if place < len(found) else None
        cells += [harmless(score["label"]), f"{score['probability']:.6g}"] if score else ["", ""]
    error = line["error"] or {}
    return [*cells, harmless(error.get("code") or ""), harmless(error.get("detail") or ""), *_unknown_cells(line)]


def _unknown_cells(line: Mapping[str, Any]) -> list[str]:
    unknown = line.get("unknown")
    if not unknown:
        return ["", ""]
    is_unknown = unknown["is_unknown"]
    return ["" if is_unknown is None else str(is_unknown).lower(), f"{unknown['score']:.6g}"]


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()
