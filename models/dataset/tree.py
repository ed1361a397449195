"""A plain folder as the source of a dataset. Follows no links."""

import os
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

from models.dataset.errors import MemberDamaged, UnsafeArchive
from models.dataset.limits import MIB
from models.dataset.member import Member
from models.dataset.meter import Meter
from models.dataset.names import is_litter, repaired, shown

CHUNK = MIB // 4


def read_folder(root: Path, meter: Meter) -> Generator[Member, None, None]:
    """Raises UnsafeArchive for links and for what is neither a file nor a folder."""
    for path in walk(root):
        relative = path.relative_to(root)
        if path.is_symlink():
            raise UnsafeArchive(f"{shown(str(relative))} is a link: put the file itself in its place")
        is_folder = path.is_dir()
        raw, garbled = repaired(os.fsencode(relative), "latin-1")
        name = meter.member(raw, is_folder=is_folder)
        if not is_folder and not path.is_file():
            raise UnsafeArchive(f"{shown(name)} is no regular file: leave it out")
        yield Member(name, is_folder, garbled, partial(meter.within_member, name, _chunks(path, meter)))


def walk(root: Path) -> Iterator[Path]:
    """Everything below a folder but litter, in the order of names; a link to a folder is named, not entered."""
    for folder, subfolders, files in os.walk(root, onerror=_refuse):
        subfolders[:] = sorted(name for name in subfolders if not is_litter(name))
        kept = sorted(name for name in files if not is_litter(name))
        yield from (Path(folder, name) for name in (*subfolders, *kept))


def _refuse(error: OSError) -> None:
    raise UnsafeArchive(f"the folder {shown(str(error.filename))} cannot be read: {error.strerror}")


def _chunks(path: Path, meter: Meter) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                meter.take(len(chunk))
                yield chunk
    except OSError as exc:
        raise MemberDamaged(f"the file cannot be read: {exc.strerror}") from exc
