"""A backup: all rows and all blobs of a Fovea in one tar, made while it serves, checked when it is restored.

rows.jsonl       every row, as at one moment
blobs/KEY        every blob that was there after that moment; artifacts and datasets never change once written
backup.json      written last: format, schema revision, rows by table, sha256 and size of every member
"""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from storage import audit
from storage.blobs import BlobStore
from storage.database import Database, migrate, open_database
from storage.errors import BackupUnusable, NotEmpty, NotFound, StorageError
from storage.rows import clear_rows, dump_rows, is_empty, load_rows
from system.files import written_whole

FORMAT = 1
ROWS = "rows.jsonl"
BLOBS = "blobs/"
RECORD = "backup.json"
_CHUNK = 2**20
_ATTEMPTS = 3

# Told how many bytes more are done, and how many there are in all.
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class BackupSummary:
    created_at: str
    revision: str
    rows: dict[str, int]
    blobs: int
    bytes: int


def write_backup(database: Database, blobs: BlobStore, file: Path, progress: Progress) -> BackupSummary:
    """Write the backup to `file`, which appears when it is whole. Raises StorageError; leaves nothing half."""
    vanished = None
    for _ in range(_ATTEMPTS):
        try:
            with written_whole(file) as part:
                return _write(database, blobs, part, progress)
        except _Vanished as gone:
            vanished = gone
        except OSError as error:
            raise StorageError(f"The backup {file} cannot be written: {error}") from error
    raise StorageError(
        f"{vanished} was deleted while the backup ran, {_ATTEMPTS} times over; run it again when less is deleted."
    ) from vanished


def restore_backup(
    url: str, blobs: BlobStore, file: Path, progress: Progress, *, force: bool = False
) -> BackupSummary:
    """Bring everything back into the database at `url` and into `blobs`: blobs first, rows in one transaction.

    Every checksum is compared before the first row is written. With `force` whatever was there is gone afterwards.
    Raises NotEmpty without `force` where something was made already, BackupUnusable for a file that is damaged or
    none, SchemaMismatch for one of a newer release.
    """
    record = read_record(file)
    migrate(url, record["revision"])
    database = open_database(url)
    with closing(database), tempfile.TemporaryFile() as rows:
        with database.session(read_only=True) as session:
            if not force and not (is_empty(session) and not blobs.list()):
                raise NotEmpty()
        kept = _restore_members(file, record, blobs, rows, progress)
        rows.seek(0)
        with database.session() as session:
            if force:
                clear_rows(session.connection())
            elif not is_empty(session):
                raise NotEmpty()
            counts = load_rows(session, rows)
        if counts != {table: count for table, count in record["rows"].items() if count}:
            raise BackupUnusable(f"{file} holds other rows than its own record says: {counts}")
        migrate(url)
        with database.session() as session:
            detail = {"created_at": record["created_at"], "force": force}
            audit.record(session, "backup.restore", "backup", file.name, detail)
    if force:
        for stray in set(blobs.list()) - kept:
            blobs.delete(stray)
    return _summary(record)


def read_record(file: Path) -> dict[str, Any]:
    """What the backup says of itself. Raises BackupUnusable for anything that is no whole backup."""
    with _opened(file) as archive:
        for member in archive:
            if member.name == RECORD and (content := archive.extractfile(member)):
                record: dict[str, Any] = json.load(content)
                if record.get("format") != FORMAT:
                    raise BackupUnusable(
                        f"{file} has format {record.get('format')!r}; this release reads {FORMAT}."
                    )
                return record
    raise BackupUnusable(f"{file} has no {RECORD}, which is written last: it is no backup, or not a whole one.")


class _Vanished(Exception):
    """A blob that a row needs was deleted after the row was read."""


def _write(database: Database, blobs: BlobStore, part: Path, progress: Progress) -> BackupSummary:
    members: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryFile() as rows, tarfile.open(part, "w") as archive:
        revision, counts = dump_rows(database, rows)
        needed = _needed(rows)
        sizes = blobs.sizes()
        total = sum(sizes.values())
        _add(archive, ROWS, rows, members)
        for key in sizes:
            try:
                with blobs.open(key) as blob, _spooled(blob) as content:
                    progress(_add(archive, BLOBS + key, content, members), total)
            except NotFound as gone:
                if key.startswith(needed):
                    raise _Vanished(key) from gone
        missing = next((prefix for prefix in needed if not any(key.startswith(prefix) for key in sizes)), None)
        if missing:
            raise _Vanished(missing)
        record = {
            "format": FORMAT,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": revision,
            "rows": counts,
            "members": members,
        }
        _add(archive, RECORD, io.BytesIO(json.dumps(record, indent=1).encode()), {})
    return _summary(record)


def _needed(rows: IO[bytes]) -> tuple[str, ...]:
    """The prefixes of the versions and datasets among the rows: these must come along whole."""
    prefixes = []
    rows.seek(0)
    for line in rows:
        entry = json.loads(line)
        row = entry["row"]
        if entry["table"] == "versions":
            prefixes.append(row["artifact"])
        elif entry["table"] == "datasets" and row["state"] == "ready":
            prefixes.append(row["prefix"])
    return tuple(prefix.rstrip("/") + "/" for prefix in prefixes)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], members: dict[str, dict[str, Any]]) -> int:
    member = tarfile.TarInfo(name)
    member.size = content.seek(0, io.SEEK_END)
    member.mtime = int(datetime.now(UTC).timestamp())
    content.seek(0)
    reader = _Hashing(content)
    archive.addfile(member, reader)
    members[name] = {"sha256": reader.sha256.hexdigest(), "bytes": member.size}
    return member.size


@contextmanager
def _spooled(blob: IO[bytes]) -> Iterator[IO[bytes]]:
    """A copy at hand: tar asks for the size first, and a store's stream may break in the middle."""
    with tempfile.SpooledTemporaryFile(max_size=16 * _CHUNK) as copy:
        while chunk := blob.read(_CHUNK):
            copy.write(chunk)
        yield copy


def _restore_members(
    file: Path, record: dict[str, Any], blobs: BlobStore, rows: IO[bytes], progress: Progress
) -> set[str]:
    """Put the blobs, and the rows into `rows`; the keys that were put. Raises BackupUnusable."""
    expected = dict(record["members"])
    total = sum(entry["bytes"] for entry in expected.values())
    kept = set()
    with _opened(file) as archive, tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "blob"
        for member in archive:
            content = archive.extractfile(member)
            if member.name == RECORD or content is None:
                continue
            sha256 = hashlib.sha256()
            with copy.open("wb") as target:
                while chunk := content.read(_CHUNK):
                    sha256.update(chunk)
                    target.write(chunk)
            if expected.pop(member.name, {}).get("sha256") != sha256.hexdigest():
                raise BackupUnusable(
                    f"{member.name} in {file} is damaged: its checksum differs. Use another backup."
                )
            if member.name == ROWS:
                with copy.open("rb") as restored:
                    shutil.copyfileobj(restored, rows)
            else:
                blobs.put_file(member.name.removeprefix(BLOBS), copy)
                kept.add(member.name.removeprefix(BLOBS))
            progress(member.size, total)
    if expected:
        raise BackupUnusable(f"{file} lacks {', '.join(sorted(expected)[:3])}. Use another backup.")
    return kept


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:") as archive:
            yield archive
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise BackupUnusable(f"{file} cannot be read as a backup: {error}") from error


def _summary(record: dict[str, Any]) -> BackupSummary:
    members = record["members"]
    size = sum(entry["bytes"] for entry in members.values())
    blobs = sum(name.startswith(BLOBS) for name in members)
    return BackupSummary(record["created_at"], record["revision"], record["rows"], blobs, size)


class _Hashing(io.RawIOBase):
    """Hashes what is read from it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data
