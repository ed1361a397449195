"""`fovea similar`: the training images that a version finds most similar to images, through a running Fovea."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.classify import only_model
from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import SimilarTo

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Image files; - reads one from a pipe.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="NAME, NAME@ALIAS or NAME:VERSION; not needed where there is one model."),
]
Precision = Annotated[str, typer.Option(help="auto (the fastest), float32, int8 or fp16.")]


def similar(
    files: Files,
    model: Model = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=50, help="How many for each image.")] = 5,
    precision: Precision = "auto",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show which of its training images a model finds most like yours. Exit code 1 if any image failed."""
    from cli.connection import connect
    from cli.output import print_json

    with connect(url, key) as client:
        found = client.similar(images_of(files), model=model or only_model(client), k=count, precision=precision)
    if as_json:
        print_json({"results": [_as_dict(file, one) for file, one in zip(files, found, strict=True)]})
    else:
        _show(files, found)
    tell_failures(files, found)


def images_of(files: Sequence[str]) -> list[Any]:
    """As the client takes them, what comes from a pipe included."""
    return [sys.stdin.buffer.read() if file == "-" else file for file in files]


def tell_failures(files: Sequence[str], found: Sequence[Any]) -> None:
    """Exits with 1 where there are any."""
    failed = [(file, one.error) for file, one in zip(files, found, strict=True) if one.error]
    for file, error in failed:
        print(f"{file}: {error.detail} ({error.code})", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _as_dict(file: str, found: "SimilarTo") -> dict[str, Any]:
    if found.error:
        return {"file": file, "error": {"code": found.error.code, "detail": found.error.detail}}
    answered = {"model": found.model, "version": found.version, "precision": found.precision}
    near = [image.to_dict() for image in found.similar]
    return {"file": file, **answered, "dataset": dict(found.dataset), "similar": near}


def _show(files: Sequence[str], found: Sequence["SimilarTo"]) -> None:
    from cli.output import print_table

    rows = []
    for file, one in zip(files, found, strict=True):
        names = [file, *[""] * (len(one.similar) - 1)]
        rows += [
            (name, near.label, f"{near.distance:.3f}", near.name or f"sha256 {near.sha256[:12]}")
            for name, near in zip(names, one.similar, strict=False)
        ]
    if rows:
        print_table(("file", "class", "distance", "training image"), rows, right=("distance",))
    gone = next((one for one in found if one.dataset.get("state") == "deleted"), None)
    if gone:
        print(f"dataset {gone.dataset.get('id')} was deleted: its images have no names any more", file=sys.stderr)
