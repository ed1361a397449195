"""The folder that holds everything one Fovea keeps, locked for as long as that Fovea runs. Knows no process."""

import errno
import fcntl
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.errors import DataFolderInUse, DataFolderUnusable

# sun_path holds 104 bytes on macOS, 108 on Linux; the longest name in the folder is "transit.sock".
_LONGEST_SOCKET_FOLDER = 104 - len("/transit.sock") - 1
_SAFE_IN_URL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-")


class DataFolder:
    """A claimed data folder: database, blobs, weights, Redis's append-only file, sample images."""

    def __init__(self, path: Path, lock: int, sockets: Path) -> None:
        self.path = path
        self.lock = lock
        self.sockets = sockets

    def announce(self, url: str) -> None:
        """Say in the lock file, for whoever finds the folder in use, where this Fovea answers."""
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, json.dumps({"pid": os.getpid(), "url": url}).encode(), 0)

    @property
    def database(self) -> Path:
        return self.path / "fovea.db"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def blobs_url(self) -> str:
        return f"file://{self.path / 'blobs'}"

    @property
    def weights(self) -> Path:
        return self.path / "weights"

    @property
    def redis(self) -> Path:
        return self.path / "redis"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def digits(self) -> Path:
        """Where the training worker keeps the built-in dataset."""
        return self.path / "cache" / "builtin" / "digits"


@contextmanager
def claim_data_folder(path: Path, timeout_s: float = 5.0) -> Iterator[DataFolder]:
    """Make and lock the folder at `path` until the context ends.

    Raises DataFolderInUse when another Fovea holds the lock, DataFolderUnusable when the folder cannot be made,
    written or locked. If the holder's process is gone but its Redis still writes its last bytes (it inherits the
    lock), the lock is awaited for `timeout_s`.
    """
    folder = path.absolute()
    lock = _open_lock(folder)
    try:
        _acquire(lock, folder, timeout_s)
        claimed = _prepare(folder, lock)
        try:
            yield claimed
        finally:
            shutil.rmtree(claimed.sockets, ignore_errors=True)
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def _prepare(folder: Path, lock: int) -> DataFolder:
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid()}).encode(), 0)
        (folder / "redis").mkdir(exist_ok=True)
        return DataFolder(folder, lock, _make_socket_folder(folder))
    except OSError as exc:
        raise DataFolderUnusable(_unusable(folder, exc)) from exc


def holder_of(folder: Path) -> str:
    """`pid 4711, http://127.0.0.1:8000` when a Fovea works in the folder, else an empty text."""
    try:
        lock = os.open(folder / "fovea.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(_holder(lock)) or "unknown"
    except OSError:
        return ""
    finally:
        os.close(lock)
    return ""


def _open_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / "fovea.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise DataFolderUnusable(_unusable(folder, exc)) from exc


def _acquire(lock: int, folder: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as exc:
            holder = _holder(lock)
            if _is_alive(holder.get("pid")) or time.monotonic() > deadline:
                raise DataFolderInUse(_in_use(folder, holder)) from exc
            time.sleep(0.1)
        except OSError as exc:
            raise DataFolderUnusable(_unusable(folder, exc)) from exc


def _holder(lock: int) -> dict[str, object]:
    with suppress(ValueError):
        content = json.loads(os.pread(lock, 4096, 0))
        if isinstance(content, dict):
            return content
    return {}


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_use(folder: Path, holder: dict[str, object]) -> str:
    who = f" ({_describe(holder)})" if holder else ""
    return f"the data folder {folder} is in use by another Fovea{who}; stop that one, or choose another: --data"


def _describe(holder: dict[str, object]) -> str:
    return ", ".join(f"{label}{holder[name]}" for name, label in (("pid", "pid "), ("url", "")) if name in holder)


def _unusable(folder: Path, error: OSError) -> str:
    reason = {
        errno.EEXIST: "a file of that name is in the way",
        errno.ENOTDIR: "a part of that path is a file",
        errno.EACCES: "it is not writable by this user",
        errno.EPERM: "it is not writable by this user",
        errno.EROFS: "it lies on a read-only file system",
        errno.ENOSPC: "the disk is full",
    }.get(error.errno or 0, error.strerror or str(error))
    return f"the data folder {folder} cannot be used: {reason}; choose another with --data"


def _make_socket_folder(folder: Path) -> Path:
    """A private folder for unix sockets: in the data folder, or in a temporary one.

    A path that is too long, holds characters that URLs would have to escape, or lies on a file system without
    sockets (some shared folders of virtual machines) cannot be used.
    """
    inside = folder / "run"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_FOLDER and set(str(inside)) <= _SAFE_IN_URL:
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir(mode=0o700)
        if _holds_sockets(inside):
            return inside
        inside.rmdir()
    return Path(tempfile.mkdtemp(prefix="fovea-", dir=None if len(tempfile.gettempdir()) < 60 else "/tmp"))  # noqa: S108


def _holds_sockets(folder: Path) -> bool:
    probe = folder / "probe.sock"
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(probe))
        probe.unlink()
    except OSError:
        return False
    return True
