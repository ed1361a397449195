"""Looks at every stored picture once, in threads. Knows no labels."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.dataset.folder import file_name, write_thumbnail
from models.dataset.picture import PictureInfo, look
from models.dataset.progress import Progress
from models.dataset.report import FaultCode
from models.errors import ImageError, ImageTooManyPixels
from models.formats import BEGIN_BYTES, image_format, no_image, other_picture
from system.cores import usable_cores

# How many pictures wait for each thread: enough to keep it busy, few enough that a cancel is quick.
AHEAD = 8


@dataclass(frozen=True)
class Flaw:
    """Why a picture cannot be used."""

    code: FaultCode
    reason: str


def look_at_all(
    folder: Path, hashes: Collection[str], max_pixels: int, progress: Progress, threads: int | None = None
) -> dict[str, PictureInfo | Flaw]:
    """By sha256. Writes the thumbnails of the sound ones into the dataset's `folder`."""
    looks: dict[str, PictureInfo | Flaw] = {}
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
    pool: ThreadPoolExecutor, work: Callable[[str], PictureInfo | Flaw], items: list[str], ahead: int
) -> Iterator[tuple[str, PictureInfo | Flaw]]:
    pending: deque[tuple[str, Future[PictureInfo | Flaw]]] = deque()
    for item in items:
        pending.append((item, pool.submit(work, item)))
        if len(pending) > ahead:
            done, future = pending.popleft()
            yield done, future.result()
    for done, future in pending:
        yield done, future.result()


def _look(folder: Path, max_pixels: int, sha256: str) -> PictureInfo | Flaw:
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
    begin = content[:BEGIN_BYTES]
    if image_format(begin):
        return Flaw(FaultCode.UNREADABLE, reason)
    if other_picture(begin):
        return Flaw(FaultCode.UNSUPPORTED_FORMAT, no_image(begin))
    return Flaw(FaultCode.NOT_AN_IMAGE, reason)
