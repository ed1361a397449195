"""`fovea classify`: images to their classes, through a running Fovea."""

import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import Fovea, Job

# Enough that the gateway has something to batch, few enough to leave room for others.
_AT_ONCE = 8
_MOST_NAMED = 10
_MOST_OF_SET = 10
NONE_OF_THESE = "none of these"


class OnUnknown(Enum):
    """What becomes of an image that shows none of the classes."""

    MARK = "mark"
    REFUSE = "refuse"


@dataclass(frozen=True)
class ClassifiedFile:
    """One file's classes, best first, or why there are none."""

    file: str
    model: str = ""
    version: int | None = None
    precision: str | None = None
    classes: tuple[dict[str, Any], ...] = field(default=())
    set: dict[str, Any] | None = None
    unknown: dict[str, Any] | None = None
    code: str | None = None
    detail: str | None = None
    image: bytes = field(default=b"", repr=False)
    explained: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        if self.code:
            return {"file": self.file, "error": {"code": self.code, "detail": self.detail}}
        answered = {"model": self.model, "version": self.version, "precision": self.precision}
        told: dict[str, Any] = {"classes": list(self.classes), "unknown": self.unknown}
        if self.set:
            told["set"] = self.set
        if self.explained:
            told["explained"] = self.explained
        return {"file": self.file, **answered, **told}

    @property
    def is_unknown(self) -> bool:
        return bool(self.unknown and self.unknown["is_unknown"])


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
    coverage: Annotated[
        float | None,
        typer.Option(help="Show the smallest set of classes that holds the truth so often, such as 0.95."),
    ] = None,
    on_unknown: Annotated[
        OnUnknown,
        typer.Option(
            help="What becomes of an image that shows none of the classes: mark it, or refuse it as an error."
        ),
    ] = OnUnknown.MARK,
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
    """Say what is in images, or that it is none of the classes. Exit code 1 if any could not be classified.

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
        chosen = model or only_model(client)
        if output := csv or jsonl:
            from cli.classify_folder import Asked, classify_folder

            asked = Asked(_only_source(files), chosen, top_k, precision, coverage, on_unknown.value)
            job = classify_folder(client, asked, output, as_csv=csv is not None, fresh=fresh)
            print_json(job.to_dict()) if as_json else _tell(job, output)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            outcomes = list(
                pool.map(
                    lambda file: classify_file(client, file, chosen, top_k, precision, coverage, on_unknown.value),
                    files,
                )
            )
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
    none = f"; {result['unknown']} show none of its classes" if result.get("unknown") else ""
    print(f"{output}: {result['images']} images by {result['model']} version {result['version']}{none}{more}")


def classify_file(
    client: "Fovea",
    file: str | Path,
    model: str,
    top_k: int,
    precision: str = "auto",
    coverage: float | None = None,
    on_unknown: Literal["mark", "refuse"] = "mark",
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
        prediction = client.classify(
            image, model=model, top_k=top_k, precision=precision, coverage=coverage, on_unknown=on_unknown
        )
    except OSError as exc:
        return ClassifiedFile(name, code="unreadable_file", detail=exc.strerror or str(exc))
    except Unauthorized:
        raise
    except ApiError as exc:
        return ClassifiedFile(name, code=exc.code, detail=exc.detail)
    classes = tuple(found.to_dict() for found in prediction.classes)
    return ClassifiedFile(
        name,
        prediction.model or model,
        prediction.version,
        prediction.precision,
        classes,
        prediction.set.to_dict() if prediction.set else None,
        prediction.unknown.to_dict() if prediction.unknown else None,
        # What came through a pipe cannot be read again.
        image=image if name == "-" else b"",
    )


def only_model(client: "Fovea") -> str:
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
    """Of one that shows none of the classes what it is least unlike stands below that, for whoever wonders."""
    found = _rows_of_set(outcome.set) if outcome.set else _rows_of(outcome.classes)
    lines = [(NONE_OF_THESE, "", ""), *found] if outcome.is_unknown else found
    return [(outcome.file if place == 0 else "", *line) for place, line in enumerate(lines)]


def _rows_of(classes: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    from cli.output import bar, percent

    return [(found["label"], bar(found["probability"]), percent(found["probability"])) for found in classes]


def _rows_of_set(found_set: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Its classes, of a large set the best, and a line of how many they are."""
    classes = found_set["classes"]
    rows = _rows_of(classes)
    count = "one class" if len(classes) == 1 else f"{len(classes)} classes"
    told = f"{count} for a coverage of {found_set['coverage']:g}"
    if len(rows) > _MOST_OF_SET:
        rows, told = rows[:_MOST_OF_SET], f"... {told}"
    return [*rows, (told, "", "")]
