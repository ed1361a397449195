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
    from storage.keys import Key, KeyLimits, KeyRing


class Scope(StrEnum):
    CLASSIFY = "classify"
    TRAIN = "train"
    ADMIN = "admin"


app = typer.Typer(no_args_is_help=True, help="Make, list, limit and revoke API keys.")

Database = Annotated[
    str | None,
    typer.Option(
        "--database-url", envvar="FOVEA_DATABASE_URL", help="The database; the one in the data folder by default."
    ),
]
Prefix = Annotated[str, typer.Argument(help="The part of the key between `fov_` and the dot.")]
RequestsPerSecond = Annotated[
    int | None, typer.Option(min=0, help="Requests a second; 0 is any number, else as the gateway is set.")
]
ImagesInFlight = Annotated[int | None, typer.Option(min=0, help="Images on their way at once; 0 as above.")]
JobsWaiting = Annotated[int | None, typer.Option(min=0, help="Jobs that wait for a worker; 0 as above.")]
BytesStored = Annotated[int | None, typer.Option(min=0, help="Bytes of the datasets sent with it; 0 as above.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whom or what it is for.")] = "key",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="admin may do what train may, and train what classify may; classify by default."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="After so many days it expires; never by default.")
    ] = None,
    requests_per_second: RequestsPerSecond = None,
    images_in_flight: ImagesInFlight = None,
    jobs_waiting: JobsWaiting = None,
    bytes_stored: BytesStored = None,
    data: Data = Path("data"),
    database_url: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is shown now and never again."""
    from cli.output import print_json
    from storage.keys import KeyLimits

    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    limits = KeyLimits(requests_per_second, images_in_flight, jobs_waiting, bytes_stored)
    with _ring(data, database_url) as ring:
        key, token = ring.create(name, scope or [Scope.CLASSIFY], expires_at, limits)
    if as_json:
        print_json({**_to_dict(key), "token": token})
    else:
        print(token)


@app.command("list")
def list_keys(data: Data = Path("data"), database_url: Database = None, as_json: AsJson = False) -> None:
    """Every key, without its secret. A use is written down once a minute."""
    from cli.output import local_time, print_json, print_table

    with _ring(data, database_url) as ring:
        keys = ring.list()
    if as_json:
        print_json([_to_dict(key) for key in keys])
        return
    rows = (
        (
            k["prefix"],
            k["name"],
            ", ".join(k["scopes"]),
            k["state"],
            local_time(k["created_at"]),
            local_time(k["expires_at"]),
            local_time(k["last_used_at"]),
            _in_words(key.limits),
        )
        for key, k in ((key, _to_dict(key)) for key in keys)
    )
    columns = ("prefix", "name", "scopes", "state", "created", "expires", "last used", "limits")
    print_table(columns, rows, optional=("created", "expires"))


@app.command()
def limits(
    prefix: Prefix,
    requests_per_second: RequestsPerSecond = None,
    images_in_flight: ImagesInFlight = None,
    jobs_waiting: JobsWaiting = None,
    bytes_stored: BytesStored = None,
    reset: Annotated[
        bool,
        typer.Option("--reset", help="Forget the key's own limits before those named are set."),
    ] = False,
    data: Data = Path("data"),
    database_url: Database = None,
    as_json: AsJson = False,
) -> None:
    """Show or set how much may be done with a key, within a second. What is not named stays as it is."""
    from cli.output import print_json
    from storage.keys import KeyLimits

    asked = KeyLimits(requests_per_second, images_in_flight, jobs_waiting, bytes_stored)
    with _ring(data, database_url) as ring:
        key = ring.get(_bare(prefix))
        if reset or asked.given():
            key = ring.set_limits(key.prefix, asked if reset else asked.or_else(key.limits))
    if as_json:
        print_json(_to_dict(key))
    else:
        print(f"{key.prefix} ({key.name}): {_in_words(key.limits) or 'as the gateway is set'}")


@app.command()
def revoke(prefix: Prefix, data: Data = Path("data"), database_url: Database = None) -> None:
    """Make a key useless, within a second."""
    with _ring(data, database_url) as ring:
        key = ring.revoke(_bare(prefix))
    print(f"{key.prefix} ({key.name}) is revoked")


@contextmanager
def _ring(data: Path, database_url: str | None) -> "Iterator[KeyRing]":
    from cli.actor import act_as_user
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
    act_as_user()
    database = open_database(url)
    try:
        yield KeyRing(database)
    finally:
        database.close()


def _bare(prefix: str) -> str:
    """Of a whole key, which somebody may have pasted."""
    return prefix.removeprefix("fov_").split(".")[0]


def _to_dict(key: "Key") -> dict[str, Any]:
    expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return {
        "prefix": key.prefix,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": "revoked" if key.revoked_at else "expired" if expired else "usable",
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "last_used_at": key.last_used_at.isoformat() if key.last_used_at else None,
        "limits": key.limits.given(),
    }


def _in_words(limits: "KeyLimits") -> str:
    """Those of the key's own: `5 requests/s, no limit on jobs waiting`; empty where there are none."""
    from cli.output import size

    amounts = {
        "requests/s": limits.requests_per_second,
        "images in flight": limits.images_in_flight,
        "jobs waiting": limits.jobs_waiting,
    }
    words = [f"{amount} {of}" for of, amount in amounts.items() if amount]
    words += [f"{size(limits.bytes_stored)} stored"] if limits.bytes_stored else []
    unlimited = [of for of, amount in {**amounts, "bytes stored": limits.bytes_stored}.items() if amount == 0]
    words += [f"no limit on {' and '.join(unlimited)}"] if unlimited else []
    return ", ".join(words)
