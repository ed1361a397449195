"""`fovea classify`: images to their classes, through a running Fovea."""

import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import Fovea, Job

# Enough that the gateway has something to batch, few enough to leave room for others.
_AT_ONCE = 8
_MOST_NAMED = 10


@dataclass(frozen=True)
class ClassifiedFile:
    """One file's classes, best first, or why there are none."""

    file: str
    model: str = ""
    version: int | None = None
    precision: str | None = None
    classes: tuple[dict[str, Any], ...] = field(default=())
    code: str | None = None
    detail: str | None = None
    image: bytes = field(default=b"", repr=False)
    explained: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        if self.code:
            return {"file": self.file, "error": {"code": self.code, "detail": self.detail}}
        answered = {"model": self.model, "version": self.version, "precision": self.precision}
        explained = {"explained": self.explained} if self.explained else {}
        return {"file": self.file, **answered, "classes": list(self.classes), **explained}


def classify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Image files; - reads one from a pipe. With --csv or --jsonl one folder or archive.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="NAME, NAME@ALIAS or NAME:VERSION; not needed where there is one model."
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many classes of each image.")] = 5,
    precision: Annotated[
        str, typer.Option(help="auto (the fastest), float32, int8 or fp16; see fovea models variants.")
    ] = "auto",
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Classify a whole folder or archive as a job; results as CSV.")
    ] = None,
    jsonl: Annotated[Path | None, typer.Option("--jsonl", help="The same; results as JSON Lines.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where the same command was cut off, not where it ended.")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain",
            metavar="PNG",
            help="Draw where the best class was seen; of several images into out-NAME.png beside it.",
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in images. Exit code 1 if any of them could not be classified.

    A folder of any size becomes a job with --csv or --jsonl. Ctrl-C stops watching, not the job; the same command
    again goes on.
    """
    from cli.connection import connect
    from cli.output import print_json

    if csv and jsonl:
        raise typer.BadParameter("it excludes --jsonl", param_hint="--csv")
    if explain:
        from cli.classify_explained import check_drawing

        check_drawing(explain, files, is_job=bool(csv or jsonl))
    with connect(url, key) as client:
        chosen = model or _only_model(client)
        if output := csv or jsonl:
            from cli.classify_folder import Asked, classify_folder

            asked = Asked(_only_source(files), chosen, top_k, precision)
            job = classify_folder(client, asked, output, as_csv=csv is not None, fresh=fresh)
            print_json(job.to_dict()) if as_json else _tell(job, output)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            outcomes = list(pool.map(lambda file: classify_file(client, file, chosen, top_k, precision), files))
        if explain:
            from cli.classify_explained import draw

            outcomes = draw(client, outcomes, chosen, explain, precision)
    if as_json:
        print_json({"results": [outcome.to_dict() for outcome in outcomes]})
    else:
        _show(outcomes, name_model=model is None)
    if any(outcome.code for outcome in outcomes):
        raise typer.Exit(1)


def _only_source(sources: Sequence[str]) -> Path:
    """Raises BadParameter."""
    if len(sources) != 1:
        raise typer.BadParameter(f"got {len(sources)} files; with --csv or --jsonl give one folder or archive")
    return Path(sources[0])


def _tell(job: "Job", output: Path) -> None:
    result = job.result or {}
    failed = sum((result.get("errors") or {}).values())
    more = f"; {failed} could not be classified, as their lines say" if failed else ""
    print(f"{output}: {result['images']} images by {result['model']} version {result['version']}{more}")


def classify_file(
    client: "Fovea", file: str | Path, model: str, top_k: int, precision: str = "auto"
) -> ClassifiedFile:
    """Classify one file. What is wrong with the file is in the outcome; raises Unreachable."""
    from fovea_client import ApiError, Unauthorized

    path, name = Path(file), str(file)
    if "://" in name:
        return ClassifiedFile(name, code="not_a_file", detail=_fetch_hint(name))
    if path.is_dir():
        return ClassifiedFile(name, code="not_a_file", detail=_folder_hint(path))
    try:
        image = sys.stdin.buffer.read() if name == "-" else path.read_bytes()
        prediction = client.classify(image, model=model, top_k=top_k, precision=precision)
    except OSError as exc:
        return ClassifiedFile(name, code="unreadable_file", detail=exc.strerror or str(exc))
    except Unauthorized:
        raise
    except ApiError as exc:
        return ClassifiedFile(name, code=exc.code, detail=exc.detail)
    classes = tuple(found.to_dict() for found in prediction.classes)
    answered = (prediction.model or model, prediction.version, prediction.precision)
    # What came through a pipe cannot be read again.
    return ClassifiedFile(name, *answered, classes, image=image if name == "-" else b"")


def _only_model(client: "Fovea") -> str:
    """The one model that there is. Raises CliError where there is none, or a choice to make."""
    from itertools import islice

    from cli.errors import CliError

    models = [model.name for model in islice(client.models.list(), _MOST_NAMED + 1) if model.latest]
    if len(models) == 1:
        return models[0]
    if not models:
        raise CliError("there is no model yet; publish one (fovea models publish) or learn one (fovea finetune)")
    more = " and more" if len(models) > _MOST_NAMED else ""
    names = ", ".join(models[:_MOST_NAMED])
    raise CliError(f"there are several models, so name one with -m: {names}{more} (fovea models list)")


def _fetch_hint(url: str) -> str:
    return f"is a URL, and only files are taken; fetch it first: curl -sL {shlex.quote(url)} | fovea classify -"


def _folder_hint(folder: Path) -> str:
    return f"is a folder; to classify all of it: fovea classify {shlex.quote(str(folder))} --csv results.csv"


def _show(outcomes: Sequence[ClassifiedFile], *, name_model: bool) -> None:
    done = [outcome for outcome in outcomes if not outcome.code]
    if done and name_model:
        print(f"by {done[0].model} version {done[0].version}, the only model", file=sys.stderr)
    if done:
        _print_classes(done)
    for outcome in outcomes:
        if outcome.explained:
            print(f"{outcome.explained['file']}: {outcome.explained['class']} by {outcome.explained['method']}")
        if outcome.code:
            print(f"{outcome.file}: {outcome.detail} ({outcome.code})", file=sys.stderr)


def _print_classes(outcomes: Sequence[ClassifiedFile]) -> None:
    """One table; where a terminal is too narrow for the files' names beside the classes, they stand above them."""
    from cli.output import print_table, terminal_width
    from cli.table import TextTable

    columns = ("file", "class", "", "probability")
    together = [row for outcome in outcomes for row in _rows(outcome)]
    width = terminal_width()
    if width is None or TextTable(columns, together).fits(width):
        print_table(columns, together)
        return
    for outcome in outcomes:
        print(outcome.file)
        print_table(("", "", ""), [row[1:] for row in _rows(outcome)])


def _rows(outcome: ClassifiedFile) -> list[tuple[str, str, str, str]]:
    from cli.output import bar, percent

    names = [outcome.file, *[""] * (len(outcome.classes) - 1)]
    return [
        (name, found["label"], bar(found["probability"]), percent(found["probability"]))
        for name, found in zip(names, outcome.classes, strict=True)
    ]
