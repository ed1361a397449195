"""A folder of pictures as one tar to send: the same bytes for the same folder, without what tools left in it."""

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

LITTER = frozenset({"__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})


def pack(folder: Path, out: Path, progress: Callable[[int, int], object]) -> None:
    """Write `out`; pictures do not shrink, so it is not compressed. `progress` is called with bytes done and all.

    A link to a file is packed as that file. Raises ValueError for a folder without files and for a link to a
    folder, OSError for what cannot be read.
    """
    paths = list(_files(folder))
    if not paths:
        raise ValueError(f"{folder} holds no files")
    total = sum(path.stat().st_size for path in paths)
    done = 0
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        for path in paths:
            # Owner, time and rights stay behind: they say nothing of the pictures and would make each tar another.
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            with path.open("rb") as file:
                entry.size = os.fstat(file.fileno()).st_size
                archive.addfile(entry, file)
            done += entry.size
            progress(done, total)


def is_litter(name: str) -> bool:
    """Whether an operating system or a tool left it there: the server would leave it out as well."""
    return name.startswith(".") or name.casefold() in LITTER


def _files(folder: Path) -> Iterator[Path]:
    """In the order of names."""
    for where, subfolders, names in os.walk(folder, onerror=_raise):
        subfolders[:] = sorted(name for name in subfolders if not is_litter(name))
        for name in subfolders:
            if Path(where, name).is_symlink():
                raise ValueError(f"{Path(where, name)} is a link to a folder: put the folder in its place")
        yield from (Path(where, name) for name in sorted(names) if not is_litter(name))


def _raise(error: OSError) -> None:
    raise error
