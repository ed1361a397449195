"""Options that many commands share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="FOVEA_URL", help="Where Fovea answers; http://127.0.0.1:8000 by default."),
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="FOVEA_KEY", help="API key; not needed on the machine that Fovea runs on."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Params = Annotated[
    str | None,
    typer.Option("--params", help="The architecture's parameters: a JSON object, or @FILE with one."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
FaultPolicy = Literal["skip", "refuse"]
OnFault = Annotated[
    FaultPolicy, typer.Option(help="Faulty files: skip leaves them out, refuse refuses the dataset.")
]
Data = Annotated[Path, typer.Option("--data", envvar="FOVEA_DATA", help="Folder of everything that Fovea keeps.")]


def confirm(question: str, yes: bool) -> None:
    """Ask a person at a terminal, unless `yes`; a script is not asked. Raises Abort for any answer but yes."""
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


def read_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object, given as it is or as `@FILE`. Raises BadParameter."""
    source = text
    if text.startswith("@"):
        try:
            source = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise typer.BadParameter(f"{text[1:]} cannot be read: {reason}", param_hint=option) from exc
    try:
        found = json.loads(source)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is not JSON: {exc}", param_hint=option) from exc
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{text!r} is JSON but no object", param_hint=option)
    return found
