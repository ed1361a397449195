"""`fovea keys`: who may call a Fovea that others than its own machine reach. Works on the database itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Data

if TYPE_CHECKING:
    from storage.keys import Key, KeyRing


class Scope(StrEnum):
    CLASSIFY = "classify"
    TRAIN = "train"
    ADMIN = "admin"


app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

Database = Annotated[
    str | None,
    typer.Option(
        "--database-url", envvar="FOVEA_DATABASE_URL", help="The database; the one in the data folder by default."
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whom or what it is for.")] = "key",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="Repeat it for several; classify by default. admin has all."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="After so many days it expires; never by default.")
    ] = None,
    data: Data = Path("data"),
    database_url: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is shown now and never again."""
    from cli.output import print_json

    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with _ring(data, database_url) as ring:
        key, token = ring.create(name, scope or [Scope.CLASSIFY], expires_at)
    if as_json:
        print_json({**_to_dict(key), "token": token})
    else:
        print(token)


@app.command("list")
def list_keys(data: Data = Path("data"), database_url: Database = None, as_json: AsJson = False) -> None:
    """Every key, without its secret."""
    from cli.output import local_time, print_json, print_table

    with _ring(data, database_url) as ring:
        keys = [_to_dict(key) for key in ring.list()]
    if as_json:
        print_json(keys)
        return
    rows = (
        (
            k["prefix"],
            k["name"],
            ", ".join(k["scopes"]),
            k["state"],
            local_time(k["created_at"]),
            local_time(k["expires_at"]),
        )
        for k in keys
    )
    print_table(("prefix", "name", "scopes", "state", "created", "expires"), rows)


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The part of the key between `fov_` and the dot.")],
    data: Data = Path("data"),
    database_url: Database = None,
) -> None:
    """Make a key useless, within seconds."""
    with _ring(data, database_url) as ring:
        key = ring.revoke(prefix.removeprefix("fov_").split(".")[0])
    print(f"{key.prefix} ({key.name}) is revoked")


@contextmanager
def _ring(data: Path, database_url: str | None) -> "Iterator[KeyRing]":
    from cli.errors import CliError
    from storage.database import migrate, open_database
    from storage.keys import KeyRing
    from storage.settings import StorageSettings

    # A container's database is named by a secret file.
    named = database_url or StorageSettings().database_url
    if not named and not data.is_dir():
        raise CliError(f"there is no data folder {data.absolute()}; name it with --data, or start Fovea once")
    url = named or StorageSettings(data=data).database
    migrate(url)
    database = open_database(url)
    try:
        yield KeyRing(database)
    finally:
        database.close()


def _to_dict(key: "Key") -> dict[str, Any]:
    expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return {
        "prefix": key.prefix,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": "revoked" if key.revoked_at else "expired" if expired else "usable",
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }
