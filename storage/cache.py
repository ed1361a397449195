"""Copies of a remote store's folders on this machine: checked by sha256, bounded by size, never torn from a user.

Threads and processes share one cache. Who uses a copy has a shared lock, which the kernel takes back from the
dead; who makes room takes the exclusive one or leaves the copy alone. Knows no content.
"""

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def hold(
        self, prefix: str, checksums: Checksums, last: str = "manifest.json", sources: Sequence[str] = ()
    ) -> HeldFolder:
        """The complete, checked folder of an immutable prefix. What is damaged here is fetched again.

        What `checksums` names and the prefix lacks lies below one of the prefixes `sources`. A copy has it all; of
        a folder that lies on this machine itself, `folders_of` says where the rest is.

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
                self._complete(prefix, copy, checksums, last, sources)
            except BaseException:
                lock.close()
                raise
        return HeldFolder(copy, lock)

    def keep(
        self, prefix: str, checksums: Checksums, last: str = "manifest.json", sources: Sequence[str] = ()
    ) -> Path:
        """Like `hold`, until `close`."""
        self._kept.append(self.hold(prefix, checksums, last, sources))
        return self._kept[-1].path

    def folders_of(self, prefixes: Sequence[str]) -> tuple[Path, ...]:
        """Those that lie on this machine themselves. Raises BlobsUnavailable."""
        folders = (self._blobs.folder_of(prefix) for prefix in prefixes)
        return tuple(folder for folder in folders if folder is not None)

    def close(self) -> None:
        """Release what `keep` keeps."""
        while self._kept:
            self._kept.pop().release()

    def _complete(self, prefix: str, copy: Path, checksums: Checksums, last: str, sources: Sequence[str]) -> None:
        mark = self._mark(prefix, copy, checksums, last)
        if mark is None:
            return
        files = self._files_below(prefix)
        files.pop(last, None)
        if _content(copy / last) == mark:
            faults = _faults(copy, checksums)
            if not faults:
                return
            log.warning("cache.damaged", folder=prefix, files=sorted(faults)[:10])
            files |= self._shared(copy, mark, checksums, last, sources, files)
            wanted = faults & files.keys() or files.keys()
        else:
            # What an interrupted fetch has brought is not brought again; the checksums decide afterwards.
            self._fetch(copy, {name: file for name, file in files.items() if _size(copy / name) != file[1]})
            files |= self._shared(copy, mark, checksums, last, sources, files)
            wanted = {name for name, (_, size) in files.items() if _size(copy / name) != size}
        self._fetch(copy, {name: files[name] for name in wanted})
        write_whole(copy / last, mark)
        faults = _faults(copy, checksums)
        if faults:
            # Left without its mark and without what differs, whose size may be right: the next user begins anew.
            (copy / last).unlink()
            for name in faults & files.keys() or files.keys():
                (copy / name).unlink(missing_ok=True)
            raise BlobsUnavailable(
                f"{prefix!r} in {self._blobs.url!r} does not have the checksums that its own list gives: "
                f"{', '.join(sorted(faults)[:3])}. It was damaged on the way or in the store; if this comes "
                "again, make it anew or restore a backup."
            )
        self._make_room(0)

    def _files_below(self, prefix: str) -> dict[str, tuple[str, int]]:
        """Key and size of each file by its name below the prefix."""
        sizes = self._blobs.sizes(prefix)
        return {key[len(prefix) + 1 :]: (key, size) for key, size in sizes.items()}

    def _shared(
        self,
        copy: Path,
        mark: bytes,
        checksums: Checksums,
        last: str,
        sources: Sequence[str],
        own: Mapping[str, tuple[str, int]],
    ) -> dict[str, tuple[str, int]]:
        """Those of the files that the copy's list names which lie below the sources."""
        if not sources:
            return {}
        write_whole(copy / last, mark)
        try:
            named = checksums(copy).keys() - own.keys()
        except Exception:  # noqa: BLE001  # its list is to be fetched again first, and is then found to be damaged
            return {}
        finally:
            (copy / last).unlink()
        shared: dict[str, tuple[str, int]] = {}
        for source in sources:
            found = self._files_below(source)
            shared |= {name: found[name] for name in named & found.keys()}
        return shared

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

    def _fetch(self, copy: Path, files: Mapping[str, tuple[str, int]]) -> None:
        """Each file is put in its place when it is whole: a reader of the copy sees the old one or the new one.

        What a copy of another prefix has already is linked, not fetched.
        """
        self._make_room(sum(size for _, size in files.values()))
        partial = self._folder / f".{uuid.uuid4().hex}.partial"
        try:
            targets = {name: partial / str(number) for number, name in enumerate(files)}
            partial.mkdir(parents=True)
            missing = [
                name for name, (key, size) in files.items() if not self._linked(key, size, targets[name], copy)
            ]
            self._blobs.get_files((files[name][0], targets[name]) for name in missing)
            for name, target in targets.items():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                target.replace(copy / name)
            copy.mkdir(parents=True, exist_ok=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _linked(self, key: str, size: int, target: Path, copy: Path) -> bool:
        for there in self._copies_with(key):
            if there.is_relative_to(copy) or _size(there) != size:
                continue
            with contextlib.suppress(OSError):
                os.link(there, target)
                return True
        return False

    def _copies_with(self, key: str) -> Iterator[Path]:
        """Where a file of that key lies, if its prefix is copied here."""
        parts = key.split("/")
        for end in range(1, len(parts)):
            yield self._folder / quote("/".join(parts[:end]), safe="") / "/".join(parts[end:])

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
