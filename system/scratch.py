"""Folders for what is needed for a while: gone when it is done with, and soon also when its process was killed."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".lock"
_PREFIX = "scratch-"
# A folder without its lock is being made in this moment, or its maker was killed in that moment.
_MAKING_S = 60.0


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent` for this block alone; removes first what killed processes left there.

    It is locked as long as its process lives, which the kernel ends with it. Raises OSError.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep_scratch(parent)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
    try:
        # Locked under another name first: a sweeper must not find a lock that nobody holds yet.
        unlocked = folder / f"{_LOCK}.new"
        with unlocked.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            unlocked.rename(folder / _LOCK)
            content = folder / "content"
            content.mkdir()
            yield content
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_scratch(parent: Path) -> int:
    """Remove the folders in `parent` whose processes are gone; how many it was."""
    abandoned = [folder for folder in parent.glob(f"{_PREFIX}*") if _is_abandoned(folder)]
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)
    return len(abandoned)


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:
        try:
            return time.time() - folder.stat().st_mtime > _MAKING_S
        except OSError:
            return False


def remove_old(parent: Path, pattern: str, older_than_s: float) -> None:
    """Remove files and folders of that name that were not touched for so long; for those without a lock.

    Raises OSError.
    """
    oldest = time.time() - older_than_s
    for path in parent.glob(pattern):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
