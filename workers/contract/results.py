"""The results of a `classify_many` job: lines in files among the blobs, for its worker and the gateway.

Each file has the lines of as many images as the request's `chunk` says, in the order of the listing, the last one
what is left. A file appears whole or not at all, and whoever writes it again writes it of the same images.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from workers.contract.messages import ClassScore, ImageOutcome, UnknownScore

# A worker that dies loses at most so many images' work, and a store that answers in 50 ms is not asked too often.
CHUNK_IMAGES = 64


def results_folder(job_id: str) -> str:
    return f"jobs/{job_id}/results"


def chunk_key(job_id: str, number: int) -> str:
    return f"{results_folder(job_id)}/{number:06d}.jsonl"


def chunk_number(key: str) -> int | None:
    """The number of the chunk that a blob of the folder is; None for another file."""
    name, _, kind = key.rpartition("/")[2].partition(".")
    return int(name) if kind == "jsonl" and name.isascii() and name.isdigit() else None


def count_chunks(images: int, chunk: int) -> int:
    return -(-images // chunk)


def prediction_set(coverage: float | None, outcome: ImageOutcome) -> dict[str, Any] | None:
    """An image's set as answers have it; None where none was asked for, or the image failed."""
    if coverage is None or outcome.prediction_set is None:
        return None
    return {"coverage": coverage, "classes": outcome.prediction_set}


def result_line(
    path: str | None,
    classes: Iterable[ClassScore] | None,
    error: dict[str, str] | None,
    *,
    found_set: Mapping[str, Any] | None = None,
    unknown: UnknownScore | dict[str, Any] | None = None,
) -> bytes:
    """One image's line: its best classes, or `{"code", "detail"}`; its set where that was asked for, and how
    foreign it is where that is known."""
    found = None if classes is None else [*classes]
    with_set = {"set": found_set} if found_set else {}
    line = {"path": path, "classes": found, "error": error, **with_set, "unknown": unknown}
    return orjson.dumps(line) + b"\n"


def read_lines(chunk: bytes) -> list[dict[str, Any]]:
    """The lines of a file of results. Raises ValueError for what is none."""
    return [orjson.loads(line) for line in chunk.splitlines()]
