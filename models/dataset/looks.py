"""Looks at every stored picture once, in threads. Knows no labels."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.cost import COSTLY_PIXELS, decoding_cost
from models.dataset.errors import LimitExceeded
from models.dataset.folder import write_thumbnail
from models.dataset.picture import PictureInfo, look
from models.dataset.places import file_name
from models.dataset.progress import Progress
from models.dataset.report import FaultCode
from models.decoder_process import DecoderDied, DecoderPool, DecoderProcess
from models.errors import ImageError, ImageTooManyPixels
from models.formats import BEGIN_BYTES, image_format, no_image, other_picture
from system.cores import usable_cores

# How many pictures wait for each thread: enough to keep it busy, few enough that a cancel is quick.
AHEAD = 8
# Each of them costs two processes; nobody has more of such files without knowing it.
MOST_ENDING = 20


@dataclass(frozen=True)
class Flaw:
    """Why a picture cannot be used."""

    code: FaultCode
    reason: str


def look_at_all(
    folder: Path,
    hashes: Collection[str],
    max_pixels: int,
    progress: Progress,
    threads: int | None = None,
    *,
    apart: bool = False,
) -> dict[str, PictureInfo | Flaw]:
    """By sha256. Writes the thumbnails of the sound ones into the dataset's `folder`.

    Decodes in this process, or `apart`: each thread in a process of its own, which a file may end. Such a file is
    tried twice and has its flaw then. Raises LimitExceeded where more than `MOST_ENDING` do that.
    """
    looks: dict[str, PictureInfo | Flaw] = {}
    threads = threads or usable_cores()
    pool = ThreadPoolExecutor(threads)
    with DecoderPool(background=True) as decoders:
        look = _Apart(folder, max_pixels, decoders) if apart else partial(look_at_file, folder, max_pixels)
        try:
            for sha256, result in _in_threads(pool, look, sorted(hashes), AHEAD * threads):
                looks[sha256] = result
                progress("inspecting", len(looks), len(hashes))
        finally:
            pool.shutdown(cancel_futures=True)
    return looks


class _Apart:
    """`look_at_file`, by processes that it may end."""

    def __init__(self, folder: Path, max_pixels: int, decoders: DecoderPool) -> None:
        self._folder, self._max_pixels, self._decoders = folder, max_pixels, decoders
        self._ending = 0
        self._lock = threading.Lock()
        self._one_costly = threading.Lock()

    def __call__(self, sha256: str) -> PictureInfo | Flaw:
        content = (self._folder / file_name(sha256)).read_bytes()
        # The memory for several at once is not bounded by anything but the number of cores.
        costly = self._one_costly if decoding_cost(content) > COSTLY_PIXELS else nullcontext()
        del content
        with costly, self._decoders.decoder() as decoder:
            try:
                return self._look(decoder, sha256)
            except DecoderDied:
                # It may have been the machine's doing.
                pass
            try:
                return self._look(decoder, sha256)
            except DecoderDied as death:
                self._count(death)
                return Flaw(FaultCode.UNREADABLE, f"decoding it ended the decoder, twice: {death}")

    def _look(self, decoder: DecoderProcess, sha256: str) -> PictureInfo | Flaw:
        asked = {"do": "look", "folder": str(self._folder), "max_pixels": self._max_pixels, "sha256": sha256}
        answer, fingerprint = decoder.ask(asked)
        if "flaw" in answer:
            return Flaw(FaultCode(answer["flaw"]["code"]), answer["flaw"]["reason"])
        return PictureInfo(**{**answer["picture"], "fingerprint": fingerprint})

    def _count(self, death: DecoderDied) -> None:
        with self._lock:
            self._ending += 1
            if self._ending > MOST_ENDING:
                detail = f"more than {MOST_ENDING} of its files ended the decoder; the last one: {death}"
                raise LimitExceeded("ending", detail)


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


def look_at_file(folder: Path, max_pixels: int, sha256: str) -> PictureInfo | Flaw:
    """Writes the thumbnail of a sound one."""
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
