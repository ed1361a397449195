"""A backup: all rows and all blobs of a Fovea in one tar, made while it serves."""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from storage.backup_record import BLOBS, FORMAT, RECORD, ROWS, BackupRecord, BackupSummary, MemberRecord, Progress
from storage.blobs import BlobStore, is_image
from storage.database import Database
from storage.errors import NotFound, StorageError
from storage.rows import dump_rows
from system.files import written_whole

_CHUNK = 2**20
_ATTEMPTS = 3


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


class _Vanished(Exception):
    """A blob that a row needs was deleted after the row was read."""


def _write(database: Database, blobs: BlobStore, part: Path, progress: Progress) -> BackupSummary:
    members: dict[str, MemberRecord] = {}
    with tempfile.TemporaryFile() as rows, tarfile.open(part, "w") as archive:
        revision, counts = dump_rows(database, rows)
        needed = _needed(rows)
        # The operator's images are not Fovea's to keep, and may be larger than all that is.
        sizes = {key: size for key, size in blobs.sizes().items() if not is_image(key)}
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
        record = BackupRecord(
            format=FORMAT,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            revision=revision,
            rows=counts,
            members=members,
        )
        _add(archive, RECORD, io.BytesIO(record.model_dump_json(indent=1).encode()), {})
    return record.summary


def _needed(rows: IO[bytes]) -> tuple[str, ...]:
    """The prefixes of the versions and datasets among the rows: these must come along whole."""
    prefixes = []
    ready = set()
    rows.seek(0)
    for line in rows:
        entry = json.loads(line)
        row = entry["row"]
        if entry["table"] == "versions":
            prefixes.append(row["artifact"])
        elif entry["table"] == "datasets" and row["state"] == "ready":
            prefixes.append(row["prefix"])
            ready.add(row["id"])
        elif entry["table"] == "dataset_sources" and row["dataset"] in ready:
            prefixes.append(row["prefix"])
    return tuple(prefix.rstrip("/") + "/" for prefix in prefixes)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], members: dict[str, MemberRecord]) -> int:
    member = tarfile.TarInfo(name)
    member.size = content.seek(0, io.SEEK_END)
    member.mtime = int(datetime.now(UTC).timestamp())
    content.seek(0)
    reader = _Hashing(content)
    archive.addfile(member, reader)
    members[name] = MemberRecord(sha256=reader.sha256.hexdigest(), bytes=member.size)
    return member.size


@contextmanager
def _spooled(blob: IO[bytes]) -> Iterator[IO[bytes]]:
    """A copy at hand: tar asks for the size first, and a store's stream may break in the middle."""
    with tempfile.SpooledTemporaryFile(max_size=16 * _CHUNK) as copy:
        while chunk := blob.read(_CHUNK):
            copy.write(chunk)
        yield copy


class _Hashing(io.RawIOBase):
    """Hashes what is read from it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data
