"""A backup brought back: all of it is verified before anything is changed, and what fails leaves nothing behind.

Its rows are loaded into a database of their own first, as the release that made them had it, and brought up to
this release there: whatever is wrong with them shows before the real database is touched.
"""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from storage import audit
from storage.backup_record import BLOBS, RECORD, ROWS, BackupRecord, BackupSummary, Progress, parse_record
from storage.blobs import BlobStore, check_key, is_image
from storage.database import Database, migrate, open_database
from storage.datasets import DatasetState
from storage.errors import BackupUnusable, NotEmpty, StorageError
from storage.job import JobState
from storage.model import read_versions
from storage.reference import check_alias, check_model_name
from storage.rows import clear_rows, dump_rows, is_empty, load_rows
from storage.tables import AliasRow, DatasetRow, DatasetSourceRow, JobRow, ModelRow, VersionRow

_CHUNK = 2**20
# Half a million files have a record of 80 MB.
_LONGEST_RECORD = 2**30


def restore_backup(
    url: str,
    blobs: BlobStore,
    file: Path,
    progress: Progress,
    *,
    force: bool = False,
    checking: Progress = lambda _count, _total: None,
) -> BackupSummary:
    """Bring everything back into the database at `url` and into `blobs`: blobs first, rows in one transaction.

    All members and rows are verified first, which `checking` is told of. With `force` whatever was there is gone
    afterwards. Whatever is raised, no file is left that was not there before; with `force`, one that the backup
    has too may have the backup's content already.

    Raises NotEmpty without `force` where something was made already, BackupUnusable for a file that is damaged or
    none, SchemaMismatch for one of a newer release.
    """
    record = read_record(file)
    with tempfile.TemporaryDirectory(prefix="fovea-restore-") as folder:
        scratch = f"sqlite:///{folder}/fovea.db"
        migrate(scratch, record.revision)
        migrate(url)
        with closing(open_database(url)) as database:
            before = {key for key in blobs.list() if not is_image(key)}
            _check_room(database, before, record, force)
            rows = Path(folder, ROWS)
            with _named(file):
                _check_members(file, record, rows, checking)
                _check_rows(scratch, record, rows)
            try:
                _put_blobs(file, record, blobs, Path(folder, "blob"), progress)
                with closing(open_database(scratch)) as checked, rows.open("w+b") as dump:
                    dump_rows(checked, dump)
                    dump.seek(0)
                    _load(database, dump, force, record, file.name)
            except BaseException:
                _remove(blobs, record.keys - before)
                raise
    if force:
        for stray in before - record.keys:
            blobs.delete(stray)
    return record.summary


def read_record(file: Path) -> BackupRecord:
    """What the backup says of itself. Raises BackupUnusable for anything that is no whole backup."""
    with _named(file):
        for member, content in _members(file):
            if member.name == RECORD:
                if member.size > _LONGEST_RECORD:
                    raise BackupUnusable(
                        f"its {RECORD} has {member.size} bytes, expected {_LONGEST_RECORD} at most"
                    )
                try:
                    return parse_record(json.loads(b"".join(_chunks(content))))
                except (ValueError, RecursionError) as error:
                    raise BackupUnusable(f"its {RECORD} is not JSON: {str(error)[:200]}") from error
        raise BackupUnusable(f"it has no {RECORD}, which is written last: it is no backup, or not a whole one")


def _check_room(database: Database, present: set[str], record: BackupRecord, force: bool) -> None:
    """Files of this very backup are what a restore leaves that was killed. Raises NotEmpty."""
    with database.session(read_only=True) as session:
        if not force and not (is_empty(session) and present <= record.keys):
            raise NotEmpty()


def _check_members(file: Path, record: BackupRecord, rows: Path, checking: Progress) -> None:
    """Compare each with the record, and write the rows to `rows`. Raises BackupUnusable."""
    missing = dict(record.members)
    for member, content in _members(file):
        if member.name == RECORD:
            continue
        expected = missing.pop(member.name, None)
        if expected is None:
            twice = "is there twice" if member.name in record.members else f"is not listed in its {RECORD}"
            raise BackupUnusable(f"{member.name[:200]!r} {twice}")
        sha256 = hashlib.sha256()
        with rows.open("wb") if member.name == ROWS else io.BytesIO() as target:
            for chunk in _chunks(content):
                sha256.update(chunk)
                if member.name == ROWS:
                    target.write(chunk)
        if (member.size, sha256.hexdigest()) != (expected.bytes, expected.sha256):
            raise BackupUnusable(
                f"{member.name[:200]!r} is damaged: it has {member.size} bytes and the checksum "
                f"{sha256.hexdigest()}, expected {expected.bytes} and {expected.sha256}"
            )
        checking(member.size, record.bytes)
    if missing:
        raise BackupUnusable(f"it lacks {', '.join(repr(name[:200]) for name in sorted(missing)[:3])}")


def _check_rows(scratch: str, record: BackupRecord, rows: Path) -> None:
    """Load them into `scratch`, bring it up to this release, and read what is there. Raises BackupUnusable."""
    try:
        with closing(open_database(scratch)) as database:
            with database.session() as session, rows.open("rb") as source:
                counts = load_rows(session, source)
            if counts != {table: count for table, count in record.rows.items() if count}:
                raise BackupUnusable(f"it has the rows {counts}, and its {RECORD} says {record.rows}")
            migrate(scratch)
            _check_contents(database, record)
    except BackupUnusable:
        raise
    except (StorageError, SQLAlchemyError, ValueError, TypeError, AttributeError) as error:
        said = str(getattr(error, "orig", None) or error).partition("\n")[0][:200]
        raise BackupUnusable(f"its rows do not fit together: {said}") from error


def _check_contents(database: Database, record: BackupRecord) -> None:
    """What a column's kind does not say: states, names, and files that rows need."""
    folders = {str(parent) for key in record.keys for parent in _parents(key)}
    needed = []
    with database.session(read_only=True) as session:
        for state in session.scalars(select(JobRow.state).distinct()):
            JobState(state)
        for state in session.scalars(select(DatasetRow.state).distinct()):
            DatasetState(state)
        for alias in session.scalars(select(AliasRow.alias).distinct()):
            check_alias(alias)
        for model in session.scalars(select(ModelRow.name)).all():
            check_model_name(model)
            versions = read_versions(session, VersionRow.model == model)
            if not all(version.number > 0 for version in versions):
                raise BackupUnusable(f"the model {model} has a version that is below 1")
            needed += [version.artifact for version in versions]
        ready = select(DatasetRow.prefix).where(DatasetRow.state == DatasetState.READY)
        needed += session.scalars(ready).all()
        shared = select(DatasetSourceRow.prefix).join(DatasetRow, DatasetRow.id == DatasetSourceRow.dataset)
        needed += session.scalars(shared.where(DatasetRow.state == DatasetState.READY)).all()
    for prefix in needed:
        if check_key(prefix) not in folders:
            raise BackupUnusable(f"a row needs files in {prefix[:200]!r}, and there are none")


def _parents(key: str) -> Iterator[str]:
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def _put_blobs(file: Path, record: BackupRecord, blobs: BlobStore, copy: Path, progress: Progress) -> None:
    """Each is compared once more: the file may have been changed since."""
    with _named(file):
        for member, content in _members(file):
            if not member.name.startswith(BLOBS):
                continue
            sha256 = hashlib.sha256()
            with copy.open("wb") as target:
                for chunk in _chunks(content):
                    sha256.update(chunk)
                    target.write(chunk)
            if member.name not in record.members or sha256.hexdigest() != record.members[member.name].sha256:
                raise BackupUnusable(f"{member.name[:200]!r} was changed while it was restored")
            blobs.put_file(member.name.removeprefix(BLOBS), copy)
            progress(member.size, record.bytes)


def _load(database: Database, rows: IO[bytes], force: bool, record: BackupRecord, name: str) -> None:
    with database.session() as session:
        if force:
            clear_rows(session.connection())
        elif not is_empty(session):
            raise NotEmpty()
        load_rows(session, rows)
        detail = {"created_at": record.created_at, "force": force}
        audit.record(session, "backup.restore", "backup", name, detail)


def _remove(blobs: BlobStore, keys: set[str]) -> None:
    # Where the store is what failed, the error that is raised says more than this one.
    with suppress(StorageError):
        for key in keys:
            blobs.delete(key)


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """What is wrong with a backup is told with its name."""
    try:
        yield
    except BackupUnusable as error:
        said = str(error).removesuffix(".")
        raise BackupUnusable(f"{file} cannot be restored: {said}. Use another backup.") from error


def _members(file: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Raises BackupUnusable for what is no tar, or holds something else than files."""
    try:
        with _BoundedReader(file) as source, tarfile.open(fileobj=source, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined] # else it keeps half a million of them
                content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
                if content is None:
                    raise BackupUnusable(f"{member.name[:200]!r} is a link, a folder, a device or sparse")
                yield member, content
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        said = getattr(error, "strerror", None) or error
        raise BackupUnusable(f"it cannot be read as a backup: {said}") from error


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    try:
        while chunk := content.read(_CHUNK):
            yield chunk
    except (tarfile.TarError, OSError, ValueError) as error:
        raise BackupUnusable(f"it cannot be read to its end: {error}") from error


class _BoundedReader(io.BufferedReader):
    """A name or a header of the tar's own is read in one piece, whose size the file claims."""

    def __init__(self, file: Path) -> None:
        super().__init__(io.FileIO(file))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _CHUNK:
            raise tarfile.ReadError(f"a header claims to be {size} bytes long")
        return super().read(size)
