"""The members of a tar, plain or gzipped, under a meter: read once from front to back, never trusting a header."""

import gzip
import re
import tarfile
import zlib
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from models.dataset.errors import ArchiveUnreadable, UnsafeArchive
from models.dataset.limits import MIB
from models.dataset.member import Member
from models.dataset.meter import Meter
from models.dataset.names import is_root, repaired, shown

CHUNK = MIB // 4
# What tarfile reads in one piece: a long name or a PAX header, whose size is the attacker's choice.
LONGEST_RECORD = 64 * 1024
# tarfile's search in a PAX header is quadratic in a run of digits (CVE-2024-6232, Python before 3.11.10).
LONG_NUMBER = re.compile(rb"[0-9]{256}")
END_MARK = bytes(tarfile.BLOCKSIZE)

TAR_ERRORS = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError, RecursionError)


def read_tar(source: Path, meter: Meter) -> Generator[Member, None, None]:
    """Raises ArchiveUnreadable, UnsafeArchive and LimitExceeded."""
    with source.open("rb") as file:
        yield from _members(_Stream(file, meter), meter)


def read_gzipped_tar(source: Path, meter: Meter) -> Generator[Member, None, None]:
    """Raises ArchiveUnreadable, UnsafeArchive and LimitExceeded."""
    with gzip.open(source) as file:
        yield from _members(_Stream(file, meter), meter)


def _members(stream: "_Stream", meter: Meter) -> Generator[Member, None, None]:
    last = "its beginning"
    try:
        archive = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined] # else tarfile keeps every member in memory
            last = entry.name
            if not (entry.isdir() and is_root(entry.name)):
                yield _member(stream, entry, meter)
        stream.finish()
    except TAR_ERRORS as exc:
        raise _damaged(last, exc) from exc


def _member(stream: "_Stream", entry: tarfile.TarInfo, meter: Meter) -> Member:
    raw, garbled = repaired(entry.name.encode("utf-8", "surrogateescape"), "latin-1")
    name = meter.member(raw, is_folder=entry.isdir())
    if entry.issparse() or not (entry.isreg() or entry.isdir()):
        raise UnsafeArchive(f"{shown(name)} is a link, a device or sparse: only whole files and folders are taken")
    meter.check_member_bytes(name, entry.size)
    return Member(name, entry.isdir(), garbled, partial(meter.within_member, name, _chunks(stream, entry)))


def _chunks(stream: "_Stream", entry: tarfile.TarInfo) -> Iterator[bytes]:
    try:
        stream.seek(entry.offset_data)
        yield from stream.content(entry.size)
    except TAR_ERRORS as exc:
        raise _damaged(entry.name, exc) from exc


def _damaged(last: str, exc: Exception) -> ArchiveUnreadable:
    return ArchiveUnreadable(f"this tar cannot be read past {shown(last)}: {exc}; pack or send it again")


class _Stream:
    """The bytes of a tar from front to back, counted, in the part of a file's interface that tarfile uses."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, meter: Meter) -> None:
        self._file = file
        self._meter = meter
        self._position = 0
        self._last_record = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a header points backwards")
        for _ in self.content(position - self._position):
            pass

    def read(self, size: int) -> bytes:
        """A header or another record of the archive's own; members' bytes come by `content`."""
        if not 0 <= size <= LONGEST_RECORD:
            raise tarfile.ReadError(f"a header claims to be {size:,} bytes long")
        self._last_record = self._take(size)
        if size > tarfile.BLOCKSIZE and LONG_NUMBER.search(self._last_record):
            raise tarfile.ReadError("a header holds a number of hundreds of digits")
        return self._last_record

    def content(self, size: int) -> Iterator[bytes]:
        while size > 0:
            chunk = self._take(min(size, CHUNK))
            if not chunk:
                raise tarfile.ReadError("it ends in the middle of a file")
            size -= len(chunk)
            yield chunk

    def finish(self) -> None:
        """tarfile takes any damaged header for the end; only a block of zeros is one. Then a gzip's checksum."""
        if self._last_record != END_MARK:
            raise tarfile.ReadError("a header is damaged, or the end is missing")
        while self._take(CHUNK):
            pass

    def _take(self, size: int) -> bytes:
        content = self._file.read(size)
        self._position += len(content)
        self._meter.take(len(content))
        return content
