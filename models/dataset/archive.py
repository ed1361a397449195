"""The files in a zip, a tar, a gzipped tar or a folder, one after the other, under limits. Knows no pictures.

Nothing is written and nothing is believed: bytes are counted while they are read, and the first member that no
honest source has ends the reading.
"""

import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Literal

from models.dataset.errors import ArchiveUnreadable
from models.dataset.limits import Limits
from models.dataset.member import Member
from models.dataset.meter import Meter
from models.dataset.tarred import read_gzipped_tar, read_tar
from models.dataset.tree import read_folder
from models.dataset.zipped import read_zip

SourceKind = Literal["folder", "zip", "tar", "tar.gz"]

READERS = {"folder": read_folder, "zip": read_zip, "tar": read_tar, "tar.gz": read_gzipped_tar}

KNOWN_BUT_NOT_READ = {
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"\xff\xd8\xff": "a JPEG picture, not a folder of them",
    b"\x89PNG": "a PNG picture, not a folder of them",
}


def read_members(source: Path, limits: Limits) -> Generator[Member, None, None]:
    """Every regular file and folder of `source`: an archive's in its order, a folder's in the order of names.

    Each member is to be read before the next is asked for. Raises ArchiveUnreadable, UnsafeArchive and
    LimitExceeded, now or while it is iterated; reading a member raises MemberDamaged where the others can still be
    read.
    """
    kind = kind_of(source)
    return READERS[kind](source, Meter(limits, None if kind == "folder" else source.stat().st_size))


def kind_of(source: Path) -> SourceKind:
    """What `source` is by its first bytes, whatever it is called. Raises ArchiveUnreadable."""
    if source.is_dir():
        return "folder"
    try:
        with source.open("rb") as file:
            begin = file.read(tarfile.BLOCKSIZE)
    except OSError as exc:
        raise ArchiveUnreadable(f"{source.name} cannot be read: {exc.strerror}") from exc
    if begin.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if begin.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if _is_tar_header(begin):
        return "tar"
    for signature, kind in KNOWN_BUT_NOT_READ.items():
        if begin.startswith(signature):
            raise ArchiveUnreadable(f"this is {kind}: send a zip, a tar or a tar.gz")
    what = f"it begins with {begin[:8]!r}" if begin else "the file is empty"
    raise ArchiveUnreadable(f"this is neither a zip, a tar nor a tar.gz: {what}")


def _is_tar_header(block: bytes) -> bool:
    """By the header's checksum: the oldest tars have no other mark. A block of zeros is a tar without members."""
    if len(block) == tarfile.BLOCKSIZE and not block.strip(b"\0"):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True
