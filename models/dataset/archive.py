"""The files in a zip, a tar, a gzipped tar or a folder, one after the other, under limits. Knows no pictures.

Nothing is written and nothing is believed: bytes are counted while they are read, and the first member that no
honest source has ends the reading.
"""

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
from models.formats import BEGIN_BYTES, ArchiveKind, archive_kind, no_archive

SourceKind = Literal["folder"] | ArchiveKind

READERS = {"folder": read_folder, "zip": read_zip, "tar": read_tar, "tar.gz": read_gzipped_tar}


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
            begin = file.read(BEGIN_BYTES)
    except OSError as exc:
        raise ArchiveUnreadable(f"{source.name} cannot be read: {exc.strerror}") from exc
    kind = archive_kind(begin)
    if kind is None:
        raise ArchiveUnreadable(no_archive(begin))
    return kind
