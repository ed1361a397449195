"""Files that are there whole or not at all, also after a loss of power."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; the file becomes `path` when the block succeeds, and is gone when not.

    The name is hidden and different each time, so that several writers never share it: the last one to finish
    wins. Makes the folder. Raises OSError, after which `path` is what it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Put the content at `path` in one step; text as UTF-8. Raises OSError."""
    with written_whole(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def is_part(path: Path) -> bool:
    """Whether the file is what a writer left behind that was killed, or one that is at work now."""
    return path.name.startswith(".") and path.name.endswith(".part")


def sync(path: Path) -> None:
    """Have the kernel write a file or a folder to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The sha256 of a file as 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
