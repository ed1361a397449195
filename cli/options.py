"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

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
Data = Annotated[Path, typer.Option("--data", envvar="FOVEA_DATA", help="Folder of everything that Fovea keeps.")]
