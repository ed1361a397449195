"""`fovea classify`: images to their classes, through a running Fovea."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import AsJson, Key, Url

# Enough that the gateway has something to batch, few enough to leave room for others.
_AT_ONCE = 8


@dataclass(frozen=True)
class Outcome:
    """One file's classes, best first, or why there are none."""

    file: str
    model: str = ""
    version: int | None = None
    classes: tuple[dict[str, Any], ...] = field(default=())
    code: str | None = None
    detail: str | None = None

    def to_dict(self) -> dict[str, Any]:
        if self.code:
            return {"file": self.file, "error": {"code": self.code, "detail": self.detail}}
        return {"file": self.file, "model": self.model, "version": self.version, "classes": list(self.classes)}


def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JPEG, PNG or WEBP images; - reads one.")],
    model: Annotated[str, typer.Option("--model", "-m", help="NAME, NAME@ALIAS or NAME:VERSION.")] = "digits",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many classes of each image.")] = 5,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in images. Exit code 1 if any of them could not be classified."""
    from cli.client import ApiClient
    from cli.output import print_json

    with ApiClient(url, key) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda file: classify_file(client, file, model, top_k), files))
    if as_json:
        print_json({"results": [outcome.to_dict() for outcome in outcomes]})
    else:
        _show(outcomes)
    if any(outcome.code for outcome in outcomes):
        raise typer.Exit(1)


def classify_file(client: Any, file: Path, model: str, top_k: int) -> Outcome:
    """Classify one file. What is wrong with the file is in the outcome; raises Unreachable."""
    from cli.client import media_type_of
    from cli.errors import ApiError

    try:
        image = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        answer = client.classify(image, model, top_k, media_type_of(image, file))
    except OSError as exc:
        return Outcome(str(file), code="unreadable_file", detail=exc.strerror or str(exc))
    except ApiError as exc:
        return Outcome(str(file), code=exc.code, detail=exc.detail)
    (prediction,) = answer["predictions"]
    if error := prediction.get("error"):
        return Outcome(str(file), code=error.get("code", "error"), detail=error.get("detail"))
    return Outcome(str(file), answer["model"], answer["version"], tuple(prediction["classes"]))


def _show(outcomes: Sequence[Outcome]) -> None:
    from cli.output import print_table

    done = [outcome for outcome in outcomes if not outcome.code]
    if done:
        print_table(("file", "class", "", "probability"), _rows(done))
    for outcome in outcomes:
        if outcome.code:
            print(f"{outcome.file}: {outcome.detail} ({outcome.code})", file=sys.stderr)


def _rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str, str, str]]:
    from cli.output import bar, percent

    for outcome in outcomes:
        for rank, found in enumerate(outcome.classes):
            name = "" if rank else outcome.file
            probability = found["probability"]
            yield (name, found["label"], bar(probability), percent(probability))
