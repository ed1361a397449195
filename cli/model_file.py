"""What `fovea models publish --file` says of the file, out of its options."""

from pathlib import Path
from typing import Any

import typer

from cli.options import read_object

IMAGENET = "imagenet"


def facts_of(
    file: Path | None,
    architecture: str | None,
    weights: str | None,
    labels: str | None,
    preprocessing: str | None,
    output: str | None,
    values: str | None,
) -> dict[str, Any]:
    """As the client's `upload` takes them; empty without a file. Raises BadParameter for what does not fit."""
    facts = {
        "--labels": labels, "--preprocessing": preprocessing, "--output": output, "--values": values,
    }  # fmt: skip
    if file is None:
        if architecture is None:
            raise typer.BadParameter("say what to publish: --architecture A, or --file FILE")
        given = [option for option, value in facts.items() if value is not None]
        if given:
            raise typer.BadParameter(f"{given[0]} says something of a file: give --file, too", param_hint=given[0])
        return {}
    if weights is not None:
        raise typer.BadParameter("a file brings its own weights; leave --weights out", param_hint="--weights")
    if labels is not None and labels != IMAGENET:
        read: list[str] | str | None = _lines_of(Path(labels))
    else:
        read = labels
    view: dict[str, Any] | str | None = preprocessing
    if preprocessing is not None and preprocessing != IMAGENET:
        view = read_object(preprocessing, "--preprocessing")
    return {
        "labels": read, "preprocessing": view, "architecture": architecture, "output": output, "values": values,
    }  # fmt: skip


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise typer.BadParameter(f"{path} cannot be read: {reason}", param_hint="--labels") from exc
