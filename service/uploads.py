"""A large body streamed to a file under a running limit; nothing of it is looked into."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from fastapi.concurrency import contextmanager_in_threadpool

from service.errors import Problem
from system.scratch import scratch_folder

CHUNK = 2**20
# What stays free, so that a full disk stops uploads before it stops the database.
SPARE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Upload:
    path: Path
    size: int
    sha256: str


@asynccontextmanager
async def received(
    request: Request, folder: Path, max_bytes: int, *, check_begin: Callable[[bytes], None]
) -> AsyncIterator[Upload]:
    """The request's body as a file in `folder`, which is gone when the block ends, whatever happened.

    `check_begin` is shown the body's first bytes before the rest is received, and raises where it is of no use.

    Raises:
        Problem: 413 above `max_bytes`, 400 for an empty body, 507 when the disk would fill up.
    """
    declared = int(request.headers.get("content-length", 0))
    if declared > max_bytes:
        raise too_large(max_bytes)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    check_space(folder, declared)
    # In threads: it begins with removing what killed gateways left, and ends with removing the archive.
    async with contextmanager_in_threadpool(scratch_folder(folder)) as scratch:
        with (scratch / "body").open("wb") as file:
            yield await _receive(request, file, folder, max_bytes, check_begin)


async def _receive(
    request: Request, file: BinaryIO, folder: Path, max_bytes: int, check_begin: Callable[[bytes], None]
) -> Upload:
    """The body, written to `file` in `folder`; when this returns, whoever opens it by its name finds it whole."""
    digest = hashlib.sha256()
    size = 0
    async for chunk in gathered(request.stream()):
        if size == 0:
            check_begin(bytes(chunk))
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        check_space(folder, len(chunk))
        await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(digest.update, chunk)
    if size == 0:
        raise Problem(400, "empty_body", "The body is empty; send the archive's bytes (with curl: -T FILE).")
    await asyncio.to_thread(file.flush)
    return Upload(Path(file.name), size, digest.hexdigest())


async def gathered(body: AsyncIterable[bytes]) -> AsyncIterator[bytearray]:
    """The body in pieces large enough that a thread for each costs little, and small enough for many uploads."""
    pieces = bytearray()
    async for chunk in body:
        pieces += chunk
        if len(pieces) >= CHUNK:
            yield pieces
            pieces = bytearray()
    if pieces:
        yield pieces


def check_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE_BYTES:
        raise Problem(507, "disk_full", f"The upload needs {wanted} bytes and {free} are free; make room first.")


def too_large(max_bytes: int) -> Problem:
    return Problem(413, "too_large", f"The upload is larger than the {max_bytes} bytes that are taken.")
