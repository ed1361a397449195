"""`fovea embed`: what a version makes of images before it names a class, as JSON or as an array."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.classify import only_model
from cli.options import AsJson, Key, Url
from cli.similar import Files, Model, Precision, images_of, tell_failures


def embed(
    files: Files,
    model: Model = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="An .npy file: float32, a row for each image, zeros where it failed."),
    ] = None,
    precision: Precision = "auto",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Write the embedding of images, as JSON or into a file for numpy. Exit code 1 if any image failed."""
    from cli.connection import connect
    from cli.output import print_json, print_table

    with connect(url, key) as client:
        found = client.embed(images_of(files), model=model or only_model(client), precision=precision)
    if output:
        _write(output, found)
    if as_json:
        print_json({"results": [_as_dict(file, one) for file, one in zip(files, found, strict=True)]})
    else:
        rows = [(file, str(len(one.embedding))) for file, one in zip(files, found, strict=True) if not one.error]
        print_table(("file", "numbers"), rows, right=("numbers",))
    tell_failures(files, found)


def _as_dict(file: str, found: Any) -> dict[str, Any]:
    if found.error:
        return {"file": file, "error": {"code": found.error.code, "detail": found.error.detail}}
    answered = {"model": found.model, "version": found.version, "precision": found.precision}
    return {"file": file, **answered, "embedding": list(found.embedding)}


def _write(output: Path, found: list[Any]) -> None:
    """Raises CliError where there is no numpy, FileNotWritten."""
    from cli.errors import CliError
    from cli.output_file import output_file

    try:
        import numpy as np
    except ModuleNotFoundError as exc:
        raise CliError("an .npy file needs numpy here: install it, or take --json") from exc
    numbers = max((len(one.embedding) for one in found), default=0)
    rows = np.zeros((len(found), numbers), np.float32)
    for row, one in zip(rows, found, strict=True):
        row[: len(one.embedding)] = one.embedding
    with output_file(output) as file:
        np.save(file, rows)
