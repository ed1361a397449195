"""The pixels of a dataset's images, prepared once and kept. Knows no network and no augmentation.

They come from `models.preprocess.prepare`, the code that serving uses. Training images are kept a little
larger than the network's input, as canvases, so that crops can vary.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import mmap
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ImageError
from models.preprocess import MAX_PIXELS, prepare
from models.spec import Preprocessing
from models.training.kept_rows import KeptRows
from models.training.progress import OnProgress
from models.training.split import ImageList
from system.files import written_whole


class Pixels:
    """Prepared images of one list, uint8 [n, height, width, 3], mapped from a file."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.array[index]
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """By the file's name: another process maps it as well, and gigabytes need not pass through a pipe."""
        array: Any = self.array
        is_whole_file = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
        return (_mapped, (Path(str(array.filename)),)) if is_whole_file else (Pixels, (array,))


def _mapped(file: Path) -> Pixels:
    return Pixels(np.load(file, mmap_mode="r"))


def canvas_of(preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing that makes canvases: the whole middle square of the resized image where serving crops."""
    if preprocessing.fit == "squash":
        return preprocessing
    scale = preprocessing.resize / max(preprocessing.height, preprocessing.width)
    return dataclasses.replace(
        preprocessing, height=round(preprocessing.height * scale), width=round(preprocessing.width * scale)
    )


def decode(
    images: ImageList,
    preprocessing: Preprocessing,
    cache: Path,
    *,
    threads: int = 2,
    max_pixels: int = MAX_PIXELS,
    on_progress: OnProgress | None = None,
) -> Pixels:
    """Every image of the list, prepared; from `cache` where it was prepared in the same way before.

    Raises ImageUnreadable and ImageTooManyPixels with the file's name, and OSError when the disk is full.
    """
    key, rows = pixels_key(images, preprocessing), KeptRows(cache, f"pixels/1/{_described(preprocessing)}")
    file = cache / f"{key}.npy"
    shape = (len(images), preprocessing.height, preprocessing.width, 3)
    if not len(images):
        return Pixels(np.zeros(shape, np.uint8))
    try:
        # The files that were used last stay longest.
        os.utime(file)
        rows.touch(key)
    except FileNotFoundError:
        _decode_into(
            file,
            images,
            preprocessing,
            shape,
            rows,
            threads=threads,
            max_pixels=max_pixels,
            on_progress=on_progress,
        )
        rows.write(key, images.sha256)
    return _mapped(file)


def pixels_key(images: ImageList, preprocessing: Preprocessing) -> str:
    """What the pixels depend on: the images' content, in order, and how they are prepared."""
    return hashlib.sha256(f"pixels/1/{images.content_hash}/{_described(preprocessing)}".encode()).hexdigest()


def _described(preprocessing: Preprocessing) -> str:
    spec = {name: value for name, value in preprocessing.to_dict().items() if name not in ("mean", "std")}
    return json.dumps(spec, sort_keys=True)


def _decode_into(
    file: Path,
    images: ImageList,
    preprocessing: Preprocessing,
    shape: tuple[int, int, int, int],
    rows: KeptRows,
    *,
    threads: int,
    max_pixels: int,
    on_progress: OnProgress | None,
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    needed, free = int(np.prod(shape)), shutil.disk_usage(file.parent).free
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"the prepared images need {needed:,} bytes, {free:,} are free in {file.parent}"
        )

    def one(path: Path, name: str) -> NDArray[np.uint8]:
        try:
            return prepare(path, preprocessing, max_pixels=max_pixels)
        except ImageError as error:
            raise type(error)(f"{name}: {error}") from error

    with written_whole(file) as part, ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        missing = _copy_shared(out, images, rows)
        step = 16 * threads
        for start in range(0, len(missing), step):
            chunk = missing[start : start + step]
            paths, names = ([listed[i] for i in chunk] for listed in (images.paths, images.names))
            for i, prepared in zip(chunk, pool.map(one, paths, names), strict=True):
                out[i] = prepared
            if on_progress is not None:
                on_progress(len(images) - max(0, len(missing) - start - step), len(images))
        out.flush()


def _copy_shared(out: NDArray[np.uint8], images: ImageList, rows: KeptRows) -> list[int]:
    """Into `out`, from arrays that were decoded before; the places that are left."""
    left = dict.fromkeys(range(len(images)))
    for shared in rows.shared(images.sha256):
        with contextlib.suppress(OSError, ValueError, IndexError):
            kept = np.load(rows.folder / f"{shared.key}.npy", mmap_mode="r")
            for ours, theirs in zip(shared.ours, shared.theirs, strict=True):
                out[ours] = kept[theirs]
                left.pop(ours)
    return list(left)
