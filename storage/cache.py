"""Copies of a remote store's folders on this machine: checked by sha256, bounded by size, never torn from a user.

Threads and processes share one cache. Who uses a copy has a shared lock, which the kernel takes back from the
dead; who makes room takes the exclusive one or leaves the copy alone. Knows no content.
"""

import contextlib
import fcntl
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

import structlog

from storage.blobs import BlobStore
from storage.errors import BlobsUnavailable, NotFound
from storage.lock import file_lock
from system.files import sha256_of, write_whole

# The sha256 of files by their names, read from the lists in their folder; raises where these are broken.
Checksums = Callable[[Path], Mapping[str, str]]

log = structlog.get_logger()


@dataclass
class HeldFolder:
    """A folder that stays as it is until `release`, or until the process ends."""

    path: Path
    _lock: IO[bytes] | None = None

    def release(self) -> None:
        if self._lock is not None:
            Path(self._lock.name).touch()
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class FolderCache:
    """Folders of `blobs`: themselves where they lie on this machine, else copies under `folder`.

    The least recently used copies go when more than `budget` bytes would lie there. A folder that alone is larger
    is fetched nevertheless, for its user can do nothing without it.
    """

    def __init__(self, blobs: BlobStore, folder: Path, budget: int) -> None:
        self._blobs, self._folder, self._budget = blobs, folder, budget
        self._kept: list[HeldFolder] = []

    def hold(self, prefix: str, checksums: Checksums, last: str = "manifest.json") -> HeldFolder:
        """The complete, checked folder of an immutable prefix. What is damaged here is fetched again.

        Raises NotFound while `last` is not in the store, BlobsUnavailable, and what `checksums` raises.
        """
        prefix = prefix.rstrip("/")
        itself = self._blobs.folder_of(prefix)
        if itself is not None:
            if not (itself / last).is_file():
                raise NotFound("folder", prefix)
            return HeldFolder(itself)
        copy = self._folder / quote(prefix, safe="")
        with file_lock(copy.with_name(copy.name + ".fetch")):
            lock = copy.with_name(copy.name + ".use").open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
                Path(lock.name).touch()
                self._complete(prefix, copy, checksums, last)
            except BaseException:
                lock.close()
                raise
        return HeldFolder(copy, lock)

    def keep(self, prefix: str, checksums: Checksums, last: str = "manifest.json") -> Path:
        """Like `hold`, until `close`."""
        self._kept.append(self.hold(prefix, checksums, last))
        return self._kept[-1].path

    def close(self) -> None:
        """Release what `keep` keeps."""
        while self._kept:
            self._kept.pop().release()

    def _complete(self, prefix: str, copy: Path, checksums: Checksums, last: str) -> None:
        mark = self._mark(prefix, copy, checksums, last)
        if mark is None:
            return
        sizes = {key[len(prefix) + 1 :]: size for key, size in self._blobs.sizes(prefix).items()}
        sizes.pop(last, None)
        if _content(copy / last) == mark:
            faults = _faults(copy, checksums)
            if not faults:
                return
            log.warning("cache.damaged", folder=prefix, files=sorted(faults & sizes.keys())[:10])
            wanted = faults & sizes.keys() or sizes.keys()
        else:
            # What an interrupted fetch has brought is not brought again; the checksums decide afterwards.
            wanted = {name for name, size in sizes.items() if _size(copy / name) != size}
        self._make_room(sum(sizes[name] for name in wanted))
        self._fetch(prefix, copy, wanted)
        write_whole(copy / last, mark)
        faults = _faults(copy, checksums)
        if faults:
            # Left without its mark and without what differs, whose size may be right: the next user begins anew.
            (copy / last).unlink()
            for name in faults & sizes.keys() or sizes.keys():
                (copy / name).unlink(missing_ok=True)
            raise BlobsUnavailable(
                f"{prefix!r} in {self._blobs.url!r} does not have the checksums that its own list gives: "
                f"{', '.join(sorted(faults)[:3])}. It was damaged on the way or in the store; if this comes "
                "again, make it anew or restore a backup."
            )
        self._make_room(0)

    def _mark(self, prefix: str, copy: Path, checksums: Checksums, last: str) -> bytes | None:
        """The store's own `last`; None when the store is away and the copy is whole."""
        try:
            return self._blobs.get_bytes(f"{prefix}/{last}")
        except NotFound:
            raise NotFound("folder", prefix) from None
        except BlobsUnavailable as error:
            if not (copy / last).is_file() or _faults(copy, checksums):
                raise
            log.warning("cache.used_unasked", folder=prefix, reason=str(error))
            return None

    def _fetch(self, prefix: str, copy: Path, names: Iterable[str]) -> None:
        """Each file is put in its place when it is whole: a reader of the copy sees the old one or the new one."""
        partial = self._folder / f".{uuid.uuid4().hex}.partial"
        try:
            targets = {name: partial / str(number) for number, name in enumerate(names)}
            partial.mkdir(parents=True)
            self._blobs.get_files((f"{prefix}/{name}", target) for name, target in targets.items())
            for name, target in targets.items():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                target.replace(copy / name)
            copy.mkdir(parents=True, exist_ok=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _make_room(self, wanted: int) -> None:
        """Remove copies, those that were longest not used first, until `wanted` more bytes fit."""
        with file_lock(self._folder / ".room"):
            self._sweep()
            uses = sorted(self._folder.glob("*.use"), key=lambda use: use.stat().st_mtime)
            copies = [use.with_name(use.name.removesuffix(".use")) for use in uses]
            sizes = {copy: _folder_size(copy) for copy in copies}
            excess = sum(sizes.values()) + wanted - self._budget
            for copy, use in zip(copies, uses, strict=True):
                if excess <= 0:
                    return
                if sizes[copy] and _remove(copy, use):
                    excess -= sizes[copy]
                    log.info("cache.forgotten", folder=copy.name, bytes=sizes[copy])

    def _sweep(self) -> None:
        """What users that were killed have left; nothing takes a day. Those at work end theirs meanwhile."""
        for leftover in [*self._folder.glob(".*.partial"), *self._folder.glob(".*.gone")]:
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < time.time() - 24 * 3600:
                    shutil.rmtree(leftover, ignore_errors=True)


def _remove(copy: Path, use: Path) -> bool:
    """Whether nobody used it, so that it is gone."""
    with use.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        gone = copy.with_name(f".{uuid.uuid4().hex}.gone")
        copy.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return True


def _faults(folder: Path, checksums: Checksums) -> set[str]:
    """The names of files that are missing or differ; of all files where their list cannot be read."""
    try:
        expected = checksums(folder)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with the lists, they are to be fetched again
        return {f"({error})"}
    return {name for name, sha256 in expected.items() if _sha256(folder / name) != sha256}


def _sha256(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _folder_size(folder: Path) -> int:
    return sum(_size(path) or 0 for path in folder.rglob("*") if path.is_file())
