"""`fovea backup` and `fovea restore`: everything that a Fovea keeps, as one file. They need no running Fovea."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, Data

if TYPE_CHECKING:
    from storage.backup_record import BackupSummary
    from storage.settings import StorageSettings

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url", envvar="FOVEA_DATABASE_URL", help="The database; the one in the data folder by default."
    ),
]
BlobsUrl = Annotated[
    str | None,
    typer.Option("--blobs-url", envvar="FOVEA_BLOBS_URL", help="The blobs; those in the data folder by default."),
]


def backup(
    target: Annotated[
        Path,
        typer.Argument(metavar="FILE_OR_FOLDER", help="A file to write, or a folder to write a new file into."),
    ],
    data: Data = Path("data"),
    database_url: DatabaseUrl = None,
    blobs_url: BlobsUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write models, datasets, jobs and keys to one tar file, while Fovea serves."""
    from cli.errors import CliError
    from storage.backup import write_backup
    from storage.blobs import BlobStore
    from storage.database import open_database

    settings = _settings(data, database_url, blobs_url)
    if not settings.database_url and not (data / "fovea.db").is_file():
        raise CliError(f"there is no Fovea in {data.absolute()}; name its folder with --data, or its URLs")
    file = target / f"fovea-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar" if target.is_dir() else target
    if file.exists():
        raise CliError(f"{file} exists already, and a backup is never overwritten; choose another name")
    if not file.parent.is_dir():
        raise CliError(f"there is no folder {file.parent.absolute()} to write {file.name} into")
    database = open_database(settings.database)
    try:
        with _transfer_shown("backup") as progress:
            summary = write_backup(database, BlobStore(settings.blobs), file, progress)
    finally:
        database.close()
    _print_summary(summary, file, "written to", as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `fovea backup` has written.")],
    data: Data = Path("data"),
    database_url: DatabaseUrl = None,
    blobs_url: BlobsUrl = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace everything that is here by what is in the backup.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring everything back into an empty Fovea that is stopped. All of it is verified first."""
    from cli.actor import act_as_user
    from cli.up.data_folder import claim_data_folder
    from storage.blobs import BlobStore
    from storage.restore import read_record, restore_backup

    settings = _settings(data, database_url, blobs_url)
    read_record(file)
    act_as_user()
    with claim_data_folder(data), _transfer_shown("check and restore") as shown:

        def progress(count: int, total: int) -> None:
            """Everything is read twice."""
            shown(count, 2 * total)

        blobs = BlobStore(settings.blobs)
        summary = restore_backup(settings.database, blobs, file, progress, force=force, checking=progress)
    _print_summary(summary, file, "restored from", as_json)


def _settings(data: Path, database_url: str | None, blobs_url: str | None) -> "StorageSettings":
    from storage.settings import StorageSettings

    # What is not given here may be named by a secret file.
    given = {"database_url": database_url, "blobs_url": blobs_url}
    return StorageSettings(data=data).model_copy(update={name: url for name, url in given.items() if url})


@contextmanager
def _transfer_shown(title: str) -> "Iterator[Callable[[int, int], None]]":
    from cli.transfer import Transfer

    done = 0
    with Transfer(title, None) as transfer:

        def advance(count: int, total: int) -> None:
            nonlocal done
            done += count
            transfer.reach(done, total)

        yield advance


def _print_summary(summary: "BackupSummary", file: Path, what: str, as_json: bool) -> None:
    from cli.output import print_json, size

    if as_json:
        print_json({"file": str(file), **vars(summary)})
        return
    rows = summary.rows
    things = ", ".join(
        f"{rows.get(table, 0)} {table}" for table in ("models", "versions", "datasets", "jobs", "keys")
    )
    print(f"{things}; {summary.blobs} files, {size(summary.bytes)}: {what} {file} ({summary.created_at})")
