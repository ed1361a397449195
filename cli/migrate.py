"""`fovea migrate`: brings the database up to this release before a gateway or worker opens it."""

from pathlib import Path
from typing import Annotated

import typer


def migrate(
    admin_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A key made by `fovea init`, admitted with the scope admin."),
    ] = None,
    metrics_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, without a scope: it opens /metrics alone.")
    ] = None,
) -> None:
    """Bring the database (FOVEA_DATABASE_URL) up to this release. Safe while the previous one still serves."""
    from cli.actor import act_as_user
    from storage import database
    from storage.keys import KeyRing
    from storage.settings import StorageSettings

    url = StorageSettings().database
    database.migrate(url)
    print("the database is up to date")
    act_as_user()
    opened = database.open_database(url)
    try:
        ring = KeyRing(opened)
        for file, name, scopes in ((admin_key, "first", ["admin"]), (metrics_key, "metrics", [])):
            if file:
                key = ring.admit(_token(file), name, scopes)
                print(f"the key {key.prefix} ({key.name}) is {'revoked' if key.revoked_at else 'admitted'}")
    finally:
        opened.close()


def _token(file: Path) -> str:
    from cli.errors import CliError

    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"the key in {file} cannot be read: {error}; `fovea init` makes one") from error
