"""Counts what is read of one source and refuses what is too much. Knows no archive format."""

from collections.abc import Iterator

from models.dataset.errors import LimitExceeded, UnsafeArchive
from models.dataset.limits import Limits
from models.dataset.names import safe_name, shown


class Meter:
    """`archive_bytes` is the size of the archive whose content is counted, None for a folder."""

    def __init__(self, limits: Limits, archive_bytes: int | None = None) -> None:
        self.limits = limits
        self._members = 0
        self._bytes = 0
        self._names: set[str] = set()
        self._most_expanded: int | None = None
        if archive_bytes is not None:
            self._most_expanded = max(limits.expansion_floor, limits.expansion * archive_bytes)

    def member(self, raw: str, *, is_folder: bool) -> str:
        """Count a member; its safe name. Raises UnsafeArchive and LimitExceeded."""
        self._members += 1
        self.check_members(self._members)
        name = safe_name(raw, self.limits)
        if not is_folder:
            if name in self._names:
                raise UnsafeArchive(f"{shown(name)} is there twice: nobody can tell which of the two is meant")
            self._names.add(name)
        return name

    def take(self, count: int) -> None:
        """Count bytes that were read."""
        self._bytes += count
        self.check_bytes(self._bytes)

    def within_member(self, name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks of one member while they are not too many."""
        count = 0
        for chunk in chunks:
            count += len(chunk)
            self.check_member_bytes(name, count)
            yield chunk

    def check_members(self, count: int) -> None:
        if count > self.limits.members:
            raise LimitExceeded(
                "members", f"more than {self.limits.members:,} files and folders: split the dataset"
            )

    def check_member_bytes(self, name: str, count: int) -> None:
        if count > self.limits.member_bytes:
            raise LimitExceeded(
                "member_bytes",
                f"{shown(name)} is more than {self.limits.member_bytes:,} bytes: shrink it or leave it out",
            )

    def check_bytes(self, count: int) -> None:
        if count > self.limits.total_bytes:
            raise LimitExceeded(
                "total_bytes",
                f"more than {self.limits.total_bytes:,} bytes unpacked: shrink the pictures or split the dataset",
            )
        if self._most_expanded is not None and count > self._most_expanded:
            raise LimitExceeded(
                "expansion",
                f"more than {self._most_expanded:,} bytes unpacked, too many for an archive of this size: "
                f"pictures do not compress {self.limits.expansion} times",
            )
