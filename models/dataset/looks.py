"""Looks at every stored picture once, in threads. Knows no labels."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.dataset.folder import file_name, write_thumbnail
from models.dataset.picture import Picture, look
from models.dataset.progress import Progress
from models.dataset.report import FaultCode
from models.errors import ImageError, ImageTooManyPixels
from system.cores import usable_cores

# How many pictures wait for each thread: enough to keep it busy, few enough that a cancel is quick.
AHEAD = 8

ACCEPTED_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
OTHER_PICTURES = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"8BPS": "a Photoshop",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"<svg": "an SVG",
}
OTHER_CONTAINERS = {b"ftyphei": "a HEIC", b"ftypmif1": "a HEIF", b"ftypmsf1": "a HEIF", b"ftypavi": "an AVIF"}


@dataclass(frozen=True)
class Flaw:
    """Why a picture cannot be used."""

    code: FaultCode
    reason: str


def look_at_all(
    folder: Path, hashes: Collection[str], max_pixels: int, progress: Progress, threads: int | None = None
) -> dict[str, Picture | Flaw]:
    """By sha256. Writes the thumbnails of the sound ones into the dataset's `folder`."""
    looks: dict[str, Picture | Flaw] = {}
    threads = threads or usable_cores()
    pool = ThreadPoolExecutor(threads)
    work = partial(_look, folder, max_pixels)
    try:
        for sha256, result in _in_threads(pool, work, sorted(hashes), AHEAD * threads):
            looks[sha256] = result
            progress("inspecting", len(looks), len(hashes))
    finally:
        pool.shutdown(cancel_futures=True)
    return looks


def _in_threads(
    pool: ThreadPoolExecutor, work: Callable[[str], Picture | Flaw], items: list[str], ahead: int
) -> Iterator[tuple[str, Picture | Flaw]]:
    pending: deque[tuple[str, Future[Picture | Flaw]]] = deque()
    for item in items:
        pending.append((item, pool.submit(work, item)))
        if len(pending) > ahead:
            done, future = pending.popleft()
            yield done, future.result()
    for done, future in pending:
        yield done, future.result()


def _look(folder: Path, max_pixels: int, sha256: str) -> Picture | Flaw:
    content = (folder / file_name(sha256)).read_bytes()
    try:
        picture, thumbnail = look(content, max_pixels=max_pixels)
    except ImageTooManyPixels as exc:
        return Flaw(FaultCode.TOO_MANY_PIXELS, str(exc))
    except ImageError as exc:
        return _flaw(content, str(exc))
    write_thumbnail(folder, sha256, thumbnail)
    return picture


def _flaw(content: bytes, reason: str) -> Flaw:
    if content.startswith(ACCEPTED_SIGNATURES) or (content[:4], content[8:12]) == (b"RIFF", b"WEBP"):
        return Flaw(FaultCode.UNREADABLE, reason)
    kinds = [kind for begin, kind in OTHER_PICTURES.items() if content.startswith(begin)]
    kinds += [kind for begin, kind in OTHER_CONTAINERS.items() if content[4:12].startswith(begin)]
    if kinds:
        return Flaw(FaultCode.UNSUPPORTED_FORMAT, f"{kinds[0]} picture: convert it to JPEG, PNG or WebP")
    return Flaw(FaultCode.NOT_AN_IMAGE, reason)
