"""The files of an `evaluate` job among the blobs, for its worker and the gateway.

    jobs/ID/results/VERSION/CHUNK.jsonl   what one version answered on some images: a head, then a line for each
    jobs/ID/report/report.json            all numbers, written last; and card.html, card.md

VERSION is the place of a version in the request, CHUNK the place of its images in the selection. A file appears
whole or not at all, and whoever writes it again writes it of the same images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from workers.contract.results import results_folder

# A worker that dies loses at most so many images' work of one version.
EVALUATED_CHUNK_IMAGES = 256
REPORT, CARD_HTML, CARD_MARKDOWN = "report.json", "card.html", "card.md"


@dataclass(frozen=True)
class ChunkHead:
    """What its answers were computed in, and by."""

    precision: str
    provider: str


def answers_key(job_id: str, version: int, chunk: int) -> str:
    return f"{results_folder(job_id)}/{version}/{chunk:06d}.jsonl"


def report_key(job_id: str, name: str) -> str:
    return f"jobs/{job_id}/report/{name}"


def answer_line(
    path: str,
    label: str,
    *,
    predicted: str | None = None,
    probability: float | None = None,
    of_label: float | None = None,
    figures: Sequence[float] | None = None,
    error: dict[str, str] | None = None,
) -> bytes:
    """One image's line. `label` is its class, `predicted` the answer with its `probability`, `of_label` what the
    true class got; null where the version does not know it. `figures` are for the measurement: the class index of
    the answer, the rank of the true class and the Brier score."""
    line = {
        "path": path,
        "label": label,
        "predicted": predicted,
        "probability": probability,
        "of_label": of_label,
        "figures": figures,
        "error": error,
    }
    return orjson.dumps(line) + b"\n"


def write_chunk(head: ChunkHead, lines: Sequence[bytes]) -> bytes:
    return orjson.dumps({"precision": head.precision, "provider": head.provider}) + b"\n" + b"".join(lines)


def read_chunk(content: bytes) -> tuple[ChunkHead, list[dict[str, Any]]]:
    """Raises ValueError for what is none."""
    try:
        head, *lines = (orjson.loads(line) for line in content.splitlines())
        return ChunkHead(head["precision"], head["provider"]), lines
    except (KeyError, TypeError) as error:
        raise ValueError(f"no file of answers: {error}") from error


def merged(versions: Sequence[list[dict[str, Any]]], *, only_differing: bool = False) -> Iterator[dict[str, Any]]:
    """A line for each image with what every version answered, of their lines for the same images."""
    for answers in zip(*versions, strict=True):
        if only_differing and len({answer["predicted"] for answer in answers}) == 1:
            continue
        yield {
            "path": answers[0]["path"],
            "label": answers[0]["label"],
            "answers": [
                {
                    "label": answer["predicted"],
                    "probability": answer["probability"],
                    "of_label": answer["of_label"],
                    "error": answer["error"],
                }
                for answer in answers
            ],
        }
