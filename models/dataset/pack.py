"""A folder of pictures as one tar to send: the same bytes for the same folder, without litter."""

import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path

from models.dataset.errors import ArchiveUnreadable, UnsafeArchive
from models.dataset.limits import Limits
from models.dataset.names import repaired, safe_name, shown
from models.dataset.progress import Progress, no_progress
from models.dataset.tree import walk
from system.files import written_whole


@dataclass(frozen=True)
class Packed:
    """How many files went in, and the size of the archive."""

    files: int
    bytes: int


def pack(folder: Path, out: Path, progress: Progress = no_progress) -> Packed:
    """Write `out`, a tar of everything in `folder` but litter; pictures do not shrink, so it is not compressed.

    A link to a file is packed as that file. The one phase of `progress` is "packing", counted in bytes.

    Raises ArchiveUnreadable where there are no files or one cannot be read, and UnsafeArchive for what would be
    refused where it is sent: a link to a folder, a device, a name with a backslash. Then there is no `out`.
    """
    if not folder.is_dir():
        raise ArchiveUnreadable(f"{folder} is no folder")
    try:
        entries = [_entry(folder, path) for path in walk(folder) if path.resolve() != out.resolve()]
        with written_whole(out) as part:
            files = _write(part, entries, progress)
            if not files:
                raise ArchiveUnreadable(f"{folder} holds no files")
    except OSError as exc:
        raise ArchiveUnreadable(f"{exc.filename or folder} cannot be packed: {exc.strerror or exc}") from exc
    return Packed(files, out.stat().st_size)


def _entry(folder: Path, path: Path) -> tuple[Path, tarfile.TarInfo]:
    relative = path.relative_to(folder)
    safe_name(repaired(os.fsencode(relative), "latin-1")[0], Limits())
    status = path.stat()
    # Owner, time and rights stay behind: they say nothing of the pictures and would make each tar another.
    entry = tarfile.TarInfo(relative.as_posix())
    if stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
    elif stat.S_ISDIR(status.st_mode) and not path.is_symlink():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    else:
        raise UnsafeArchive(
            f"{shown(str(relative))} is a link to a folder or a device: put the files in its place"
        )
    return path, entry


def _write(part: Path, entries: list[tuple[Path, tarfile.TarInfo]], progress: Progress) -> int:
    files = done = 0
    total = sum(entry.size for _, entry in entries)
    with tarfile.open(part, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        for path, entry in entries:
            if entry.isdir():
                archive.addfile(entry)
                continue
            with path.open("rb") as file:
                archive.addfile(entry, file)
            files += 1
            done += entry.size
            progress("packing", done, total)
    return files
