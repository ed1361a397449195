"""The members of a zip file, under a meter. Trusts neither its directory nor its headers."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

from models.dataset.errors import ArchiveUnreadable, MemberDamaged, UnsafeArchive
from models.dataset.limits import MIB
from models.dataset.member import Member
from models.dataset.meter import Meter
from models.dataset.names import is_root, repaired, shown

CHUNK = MIB // 4
# More bytes than the directory needs on average for an entry, whose name may be as long as 65,535.
LONG_ENTRY = 256
ENTRY_SIGNATURE = b"PK\x01\x02"
# zipfile inflates these two in bounded steps. Its bzip2 and LZMA members expand without bound in a single call.
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
METHODS_NOT_READ = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}
ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
UTF8_FLAG = 0x800

ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, LookupError,
)  # fmt: skip


def read_zip(source: Path, meter: Meter) -> Generator[Member, None, None]:
    """Raises ArchiveUnreadable, UnsafeArchive and LimitExceeded; what the directory admits is refused unread."""
    with _DirectoryGuard(io.FileIO(source), meter) as file:
        try:
            archive = zipfile.ZipFile(file)
        except ZIP_ERRORS as exc:
            raise ArchiveUnreadable(f"this zip is damaged or cut short: {exc}; pack or send it again") from exc
        with archive:
            entries = archive.infolist()
            meter.check_members(len(entries))
            meter.check_bytes(sum(entry.file_size for entry in entries))
            for entry in entries:
                if not is_root(entry.filename):
                    yield _member(archive, entry, meter)


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, meter: Meter) -> Member:
    raw, garbled = _name(entry)
    # Not `entry.is_dir()`, which an empty name ends with an IndexError.
    is_folder = raw.endswith("/")
    name = meter.member(raw, is_folder=is_folder)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeArchive(f"{shown(name)} is a link or a device: only files and folders are taken")
    if entry.flag_bits & ENCRYPTED_FLAGS:
        raise ArchiveUnreadable(f"{shown(name)} is encrypted: pack the folder without a password")
    if entry.compress_type not in METHODS:
        method = METHODS_NOT_READ.get(entry.compress_type, f"method {entry.compress_type}")
        raise ArchiveUnreadable(
            f"{shown(name)} is compressed by {method}: use a zip's ordinary compression, or a tar"
        )
    meter.check_member_bytes(name, entry.file_size)
    return Member(name, is_folder, garbled, partial(meter.within_member, name, _chunks(archive, entry, meter)))


def _name(entry: zipfile.ZipInfo) -> tuple[str, bool]:
    # `orig_filename` still has what stands behind a NUL, where `filename` was cut.
    if entry.flag_bits & UTF8_FLAG:
        return entry.orig_filename, False
    # macOS writes UTF-8 without saying so, which zipfile then has read as the code page of the IBM PC.
    return repaired(entry.orig_filename.encode("cp437"), "cp437")


def _chunks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, meter: Meter) -> Iterator[bytes]:
    if not entry.file_size:
        return  # as many as a zip has room for cost more to open than all else that is done with them
    try:
        with archive.open(entry) as file:
            while chunk := file.read(CHUNK):
                meter.take(len(chunk))
                yield chunk
    except ZIP_ERRORS as exc:
        raise MemberDamaged(f"damaged in the archive: {exc}") from exc


class _DirectoryGuard(io.BufferedReader):
    """A zip whose directory is counted before `zipfile` makes an object of half a kilobyte of every entry.

    `ZipFile` reads the directory in one piece; all else that it reads comes in pieces of a chunk at most.
    """

    def __init__(self, raw: io.FileIO, meter: Meter) -> None:
        super().__init__(raw)
        self._meter = meter

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > CHUNK:
            # Else a directory as large as the upload would be in memory three times.
            self._meter.check_members(size // LONG_ENTRY)
        content = super().read(size)
        if len(content) > CHUNK:
            self._meter.check_members(content.count(ENTRY_SIGNATURE))
        return content
