"""What a backup says of itself, in its own words and in none that a stranger could have put there.

rows.jsonl       every row, as at one moment
blobs/KEY        every blob that was there after that moment; artifacts and datasets never change once written
backup.json      written last: format, schema revision, rows by table, sha256 and size of every member
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, field_validator

from storage.blobs import check_key, is_image
from storage.errors import BackupUnusable, StorageError

FORMAT = 1
ROWS = "rows.jsonl"
BLOBS = "blobs/"
RECORD = "backup.json"
_LISTED = 3

# Told how many bytes more are done, and how many there are in all.
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class BackupSummary:
    created_at: str
    revision: str
    rows: dict[str, int]
    blobs: int
    bytes: int


class MemberRecord(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: NonNegativeInt


class BackupRecord(BaseModel):
    """The content of `backup.json`; fields of a later release are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    format: int
    created_at: str
    revision: Annotated[str, Field(pattern="^[0-9]{4}$")]
    rows: dict[str, NonNegativeInt]
    members: dict[str, MemberRecord]

    @field_validator("created_at")
    @classmethod
    def _is_time(cls, text: str) -> str:
        datetime.fromisoformat(text)
        return text

    @property
    def bytes(self) -> int:
        return sum(member.bytes for member in self.members.values())

    @property
    def keys(self) -> set[str]:
        """Of its blobs."""
        return {name.removeprefix(BLOBS) for name in self.members if name != ROWS}

    @property
    def summary(self) -> BackupSummary:
        return BackupSummary(self.created_at, self.revision, self.rows, len(self.keys), self.bytes)


def parse_record(values: Any) -> BackupRecord:
    """Raises BackupUnusable, with what is wrong, for anything that no `fovea backup` has written."""
    if not isinstance(values, dict):
        raise BackupUnusable(f"its {RECORD} is a {type(values).__name__}, expected an object of fields")
    if values.get("format") != FORMAT:
        given = repr(values.get("format"))[:80]
        raise BackupUnusable(f"it has format {given}; this release reads {FORMAT}")
    try:
        record = BackupRecord.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        told = [f"{'.'.join(str(part)[:80] for part in fault['loc'])}: {fault['msg']}" for fault in faults]
        raise BackupUnusable(f"its {RECORD} cannot be read: {'; '.join(told[:_LISTED])}") from None
    _check_names(record)
    return record


def _check_names(record: BackupRecord) -> None:
    if ROWS not in record.members:
        raise BackupUnusable(f"its {RECORD} lists no {ROWS}")
    keys = record.keys
    for name in record.members:
        if name == ROWS:
            continue
        key = name.removeprefix(BLOBS)
        if key == name or not _is_key(key):
            raise BackupUnusable(f"its {RECORD} lists {name[:200]!r}; expected names like {BLOBS}KEY")
        if is_image(key):
            raise BackupUnusable(f"its {RECORD} lists {name[:200]!r}: the operator's images are in no backup")
        if inside := next((str(parent) for parent in PurePosixPath(key).parents if str(parent) in keys), None):
            raise BackupUnusable(f"its {RECORD} lists {inside[:200]!r} as a file and as a folder")


def _is_key(text: str) -> bool:
    try:
        return check_key(text) == text
    except StorageError:
        return False
