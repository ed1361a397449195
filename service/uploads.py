"""A large body streamed to a file under a running limit; nothing of it is looked into."""

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from fastapi import Request

from service.errors import Problem

CHUNK = 4 * 2**20
# What stays free, so that a full disk stops uploads before it stops the database.
SPARE_BYTES = 512 * 2**20
PREFIX = "upload-"
# Every piece of an upload that is under way is a write to its file.
ABANDONED_S = 3600.0
log = structlog.get_logger()


@dataclass(frozen=True)
class Upload:
    path: Path
    size: int
    sha256: str


@asynccontextmanager
async def received(request: Request, folder: Path, max_bytes: int) -> AsyncIterator[Upload]:
    """The request's body as a file in `folder`, which is gone when the block ends, whatever happened.

    Raises:
        Problem: 413 above `max_bytes`, 400 for an empty body, 507 when the disk would fill up.
    """
    declared = int(request.headers.get("content-length", 0))
    if declared > max_bytes:
        raise _too_large(max_bytes)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    _check_space(folder, declared)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=PREFIX) as file:
        digest = hashlib.sha256()
        size = 0
        async for chunk in _chunks(request):
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            _check_space(folder, len(chunk))
            await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(digest.update, chunk)
        if size == 0:
            raise Problem(400, "empty_body", "The body is empty; send the archive's bytes (with curl: -T FILE).")
        await asyncio.to_thread(file.flush)
        yield Upload(Path(file.name), size, digest.hexdigest())


def remove_abandoned(folder: Path, older_than_s: float = ABANDONED_S) -> None:
    """Delete what a gateway left in `folder` that was killed while it received; raises OSError."""
    oldest = time.time() - older_than_s
    for path in folder.glob(f"{PREFIX}*"):
        # Another gateway may just have deleted its own.
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                log.warning("upload.abandoned", file=path.name)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces large enough that a thread for each costs nothing."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _check_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE_BYTES:
        raise Problem(507, "disk_full", f"The upload needs {wanted} bytes and {free} are free; make room first.")


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, "too_large", f"The upload is larger than the {max_bytes} bytes that are taken.")
