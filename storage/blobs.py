"""Files by key under an fsspec URL: a folder (file://) by default, s3:// on a fleet. Knows no content.

A file appears whole or not at all. A folder counts as complete when its last file, e.g. the manifest, is there.
"""

import importlib
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urlsplit

import fsspec

from storage.errors import BlobsUnavailable, NotFound, StorageError
from storage.secret_url import redacted
from system.files import sync

# Files being written lie here, in the root's own file system, so that a rename can put them in their place.
_STAGING = ".staging"

# The one folder that is the operator's: who runs Fovea puts images there to be classified. Nothing of ours is
# written into it or deleted from it, and no backup takes it.
IMAGE_FOLDER = "images"

# What the several file systems raise for a key that names no file.
_MISSING = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)

# Files on their way at once, to or from a remote store.
_AT_ONCE = 16

# How often a file is put into a folder that vanishes in that moment.
_MOVES = 100

_A = TypeVar("_A")
_B = TypeVar("_B")
_Keys = list[str]  # inside the class, `list` is its method


def is_image(key: str) -> bool:
    """Whether the key is one of the operator's."""
    return key.startswith(f"{IMAGE_FOLDER}/")


class BlobStore:
    """Files by key; a key is a relative path with `/`. Raises BlobsUnavailable besides what each call names."""

    def __init__(self, url: str) -> None:
        """Nothing is read or written yet. Raises StorageError for a URL that fsspec does not know."""
        self.url = url
        self._folder = _local_folder(url)
        # Listings are never cached: other processes write too.
        options = {} if self._folder else {"use_listings_cache": False}
        try:
            self._files, root = fsspec.core.url_to_fs(str(self._folder or url), **options)
        except (ValueError, ImportError) as error:
            raise StorageError(f"The blobs' URL {redacted(url)!r} cannot be used: {error}") from error
        self._root = str(root).rstrip("/")
        self._failures = _failures(url)

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write or replace the file."""
        with self._translated(key, writing=True):
            if self._folder is None:
                self._files.pipe_file(self._path(key), data)
            else:
                with self._staging() as staging:
                    (staging / "0").write_bytes(data)
                    self._place([(staging / "0", key)])

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace the file with a copy of a local one."""
        self._put_files([(path, key)])

    def put_folder(self, prefix: str, folder: Path, last: str = "manifest.json") -> None:
        """Make the prefix hold exactly the folder's files. `last` is gone first and comes last.

        So nobody takes a half-written folder for a complete one. One writer at a time: give every attempt a prefix
        of its own. Raises StorageError when the folder has no such file.
        """
        if not (folder / last).is_file():
            raise StorageError(f"{folder} cannot be kept: it has no {last}, which marks it as complete.")
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        keys = {f"{check_key(prefix)}/{name}": folder / name for name in names}
        mark = f"{check_key(prefix)}/{last}"
        self.delete(mark)
        for stray in set(self.list(prefix)) - set(keys):
            self.delete(stray)
        self._put_files([(path, key) for key, path in keys.items() if key != mark])
        self.put_file(mark, folder / last)

    def get_bytes(self, key: str, most: int | None = None) -> bytes:
        """The file's bytes, the first `most` where that is given and it is not empty. Raises NotFound."""
        begin = {} if most is None else {"start": 0, "end": most}
        with self._translated(key):
            return bytes(self._files.cat_file(self._path(key), **begin))

    def open(self, key: str) -> IO[bytes]:
        """The file for reading, to be closed by the caller. Raises NotFound."""
        with self._translated(key):
            self._size(key)  # S3 would open a folder
            opened: IO[bytes] = self._files.open(self._path(key), "rb")
            return opened

    def exists(self, key: str) -> bool:
        with self._translated(key):
            return bool(self._files.isfile(self._path(key)))

    def size(self, key: str) -> int:
        """In bytes. Raises NotFound."""
        with self._translated(key):
            return self._size(key)

    def delete(self, key: str) -> None:
        """Does nothing when there is no such file."""
        with self._translated(key):
            path = self._path(key)
            if self._files.isfile(path):
                self._files.rm_file(path)
                self._remove_empty(path)

    def delete_files(self, keys: Iterable[str]) -> None:
        """Each as `delete` does, several at once."""
        _each(lambda key, _: self.delete(key), ((key, None) for key in keys))

    def delete_prefix(self, prefix: str) -> None:
        """Delete the folder of that name with all in it; `a/b` is not a prefix of `a/bc`."""
        with self._translated(prefix):
            path = self._path(prefix)
            if self._folder is None:
                if self._files.exists(path):
                    self._files.rm(path, recursive=True)
            elif Path(path).is_dir():
                # Moved away first, so that it is gone at once and not file by file.
                with self._staging() as staging:
                    Path(path).rename(staging / "0")
                self._remove_empty(path)

    def list(self, prefix: str = "") -> _Keys:
        """The keys in the folder of that name and below it, sorted; none when there is no such folder."""
        with self._translated(prefix):
            found = self._files.find(self._path(prefix) if prefix else self._root)
        keys = (str(path)[len(self._root) + 1 :] for path in found)
        return sorted(key for key in keys if not key.startswith(f"{_STAGING}/"))

    def delete_other_folders(self, prefix: str) -> None:
        """Delete what lies beside the folder `prefix`, in the folder that holds it. Raises BlobsUnavailable."""
        parent, _, name = prefix.rstrip("/").rpartition("/")
        for other in set(self.folders(parent)) - {name}:
            self.delete_prefix(f"{parent}/{other}")

    def has_folder(self, prefix: str) -> bool:
        """Whether there is a folder of that name, asked without a listing of what lies in it."""
        try:
            with self._translated(prefix):
                return bool(self._files.info(self._path(prefix))["type"] == "directory")
        except NotFound:
            return False

    def folders(self, prefix: str) -> _Keys:
        """The names of the folders directly in the folder of that name, sorted; none when there is none."""
        with self._translated(prefix):
            path = self._path(prefix)
            found = self._files.ls(path, detail=True) if self._files.isdir(path) else []
        folders = (str(entry["name"]).rstrip("/") for entry in found if entry["type"] == "directory")
        return sorted(folder.rpartition("/")[2] for folder in folders)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """The keys that `list` gives, with their sizes in bytes."""
        with self._translated(prefix):
            found = self._files.find(self._path(prefix) if prefix else self._root, detail=True)
        sizes = {str(path)[len(self._root) + 1 :]: int(details["size"]) for path, details in found.items()}
        return {key: sizes[key] for key in sorted(sizes) if not key.startswith(f"{_STAGING}/")}

    def folder_of(self, prefix: str) -> Path | None:
        """The folder that holds the prefix's files where they lie on this machine, complete or not; else None.

        Raises BlobsUnavailable, or a store that is away would be taken for one without the files.
        """
        key = check_key(prefix)
        self._require_root()
        return None if self._folder is None else self._folder / key

    def get_files(self, files: Iterable[tuple[str, Path]]) -> None:
        """Copy each key to its path, several at once. Raises NotFound; what came before it is then there."""

        def get(key: str, path: Path) -> None:
            with self._translated(key):
                self._files.get_file(self._path(key), str(path))

        _each(get, files)

    def sweep(self, silent_for_s: float = 3600) -> None:
        """Remove what killed writers have left half-written: to which nothing was written for so long."""
        if self._folder is None:
            return
        for leftover in (self._folder / _STAGING).glob("*"):
            if _last_written(leftover) < time.time() - silent_for_s:
                shutil.rmtree(leftover, ignore_errors=True)

    def _put_files(self, files: Iterable[tuple[Path, str]]) -> None:
        with self._translated(self.url, writing=True):
            if self._folder is None:
                _each(lambda path, key: self._files.put_file(str(path), self._path(key)), files)
                return
            with self._staging() as staging:
                staged = []
                for number, (path, key) in enumerate(files):
                    staged.append((Path(shutil.copyfile(path, staging / str(number))), key))
                self._place(staged)

    def _place(self, staged: Sequence[tuple[Path, str]]) -> None:
        """Flush all the staged files, then move each to its key: after a power cut none is there half."""
        for path, _ in staged:
            sync(path)
        folders = set()
        for path, key in staged:
            target = Path(self._path(key))
            _move(path, target)
            folders.add(target.parent)
        for folder in folders:
            sync(folder)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        folder = Path(self._root) / _STAGING / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _require_root(self) -> None:
        """To most calls of the file system a folder that cannot be looked into is one without files.

        Where there is none yet, nothing was written so far. Raises BlobsUnavailable.
        """
        if self._folder is None:
            return
        try:
            is_folder = stat.S_ISDIR(self._folder.stat().st_mode)
        except FileNotFoundError:
            return
        except OSError as error:
            raise BlobsUnavailable(f"{self.url!r} cannot be read or written: {error}") from error
        if not is_folder:
            raise BlobsUnavailable(f"{self.url!r} cannot be read or written: it is no folder")

    def _remove_empty(self, path: str) -> None:
        """A folder that nothing lies in any more is no key, but would stay for ever."""
        if self._folder is None:
            return
        for folder in Path(path).parents:
            if folder == self._folder:
                return
            try:
                folder.rmdir()
            except OSError:
                return

    def _size(self, key: str) -> int:
        found = self._files.info(self._path(key))
        if found["type"] != "file":
            raise FileNotFoundError(key)
        return int(found["size"])

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    @contextmanager
    def _translated(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """The boundary: what the file system raises becomes ours."""
        try:
            self._require_root()
            yield
        except self._failures as error:
            if not writing and isinstance(error, _MISSING):
                raise NotFound("file", key) from error
            said = f"{key!r} in {self.url!r} cannot be read or written: {error}"
            raise BlobsUnavailable(redacted(said)) from error


def check_key(key: str) -> str:
    """The key without a `/` at its end; raises StorageError when it could lead out of the root."""
    parts = key.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or set(key) & {"\x00", "\\"} or parts[0] == _STAGING:
        raise StorageError(f"{key[:200]!r} is not a key of the blobs. Expected names with `/` between them.")
    return "/".join(parts)


def _last_written(folder: Path) -> float:
    """When anything in it was; now, where its writer has just removed it."""
    try:
        return max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
    except FileNotFoundError:
        return time.time()


def _move(path: Path, target: Path) -> None:
    """Put the file at `target`, whose folder others may remove, when it is empty, at any moment."""
    for _ in range(_MOVES):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except (FileNotFoundError, FileExistsError):
            continue
        else:
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def _each(do: Callable[[_A, _B], object], pairs: Iterable[tuple[_A, _B]]) -> None:
    """A store that answers in 20 ms would need half an hour for 100,000 files one after the other."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="blobs") as pool:
        tasks = [pool.submit(do, *pair) for pair in pairs]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _local_folder(url: str) -> Path | None:
    """The folder that a file:// URL or a plain path names; None for any other place."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path)).absolute()
    return None if "://" in url else Path(url).absolute()


def _failures(url: str) -> tuple[type[Exception], ...]:
    if url.startswith(("s3://", "s3a://")):
        botocore: Any = importlib.import_module("botocore.exceptions")
        return (OSError, botocore.BotoCoreError)
    return (OSError,)
