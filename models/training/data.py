"""Which images train, validate and test, and their pixels. Knows no network and no augmentation.

Pixels come from `models.preprocess.prepare`, the code that serving uses. Training images are kept a little larger
than the network's input, as canvases, so that crops can vary.
"""

import dataclasses
import errno
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.dataset.folder import DatasetFolder
from models.dataset.sample import SPLITS, Sample, Split
from models.errors import ImageError
from models.preprocess import MAX_PIXELS, prepare
from models.spec import Preprocessing
from models.training.errors import DatasetUnusable
from models.training.seeds import derive
from system.files import written_whole

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageList:
    """The images of one split: files, class indices (int64 [n]) and the names that users know them by."""

    paths: tuple[Path, ...]
    targets: NDArray[np.int64]
    names: tuple[str, ...]
    sha256: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def content_hash(self) -> str:
        return hashlib.sha256("\n".join(self.sha256).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """Labels in the order of the model's outputs, and who does what. `origin` says where the split comes from."""

    labels: tuple[str, ...]
    train: ImageList
    validation: ImageList
    test: ImageList
    origin: str

    def describe(self) -> dict[str, object]:
        """For manifests: how many images of each class train, validate and test."""
        return {
            "origin": self.origin,
            **{
                name: {label: int(np.sum(part.targets == i)) for i, label in enumerate(self.labels)}
                for name, part in (("train", self.train), ("validation", self.validation), ("test", self.test))
            },
        }


def plan(dataset: DatasetFolder, *, fraction: float, seed: int) -> Plan:
    """The dataset's own split where it has one, else a stratified one: `fraction` of each class validates.

    An image that occurs twice under one label stays on one side, for the draw goes by content. Raises
    DatasetUnusable, naming the class, when there is nothing to learn from or nothing to validate on.
    """
    if len(dataset.labels) < 2:
        raise DatasetUnusable(f"the dataset has {len(dataset.labels)} class(es), expected at least 2")
    given = Counter(sample.split for sample in dataset.samples)
    sides: dict[Split, list[Sample]] = {"train": [], "val": [], "test": []}
    if given["val"]:
        origin = "given"
        for sample in dataset.samples:
            sides[sample.split or "train"].append(sample)
    else:
        origin = f"stratified, {fraction:g} of each class, seed {seed}"
        held_out = _held_out([s for s in dataset.samples if s.split != "test"], fraction, seed)
        for sample in dataset.samples:
            side: Split = "val" if (sample.label, sample.sha256) in held_out else "train"
            sides["test" if sample.split == "test" else side].append(sample)
    train, validation, test = (_listed(dataset, sides[side]) for side in SPLITS)
    found = Plan(dataset.labels, train, validation, test, origin)
    _check(found)
    return found


def _held_out(samples: Sequence[Sample], fraction: float, seed: int) -> set[tuple[str, str]]:
    by_label: dict[str, set[str]] = {}
    for sample in samples:
        by_label.setdefault(sample.label, set()).add(sample.sha256)
    held: set[tuple[str, str]] = set()
    for label, contents in by_label.items():
        if len(contents) < 2:
            raise DatasetUnusable(
                f"class {label!r} has one image; at least 2 are needed, one to learn from and one to validate on"
            )
        drawn = sorted(contents, key=lambda sha256: derive("validation", seed, sha256))
        count = min(max(1, round(len(contents) * fraction)), len(contents) - 1)
        held.update((label, sha256) for sha256 in drawn[:count])
    return held


def _listed(dataset: DatasetFolder, samples: Sequence[Sample]) -> ImageList:
    index = {label: i for i, label in enumerate(dataset.labels)}
    ordered = sorted(samples, key=lambda s: (index[s.label], s.sha256, s.name))
    return ImageList(
        tuple(dataset.path_of(s) for s in ordered),
        np.array([index[s.label] for s in ordered], dtype=np.int64),
        tuple(s.name for s in ordered),
        tuple(s.sha256 for s in ordered),
    )


def _check(plan: Plan) -> None:
    counts = np.bincount(plan.train.targets, minlength=len(plan.labels))
    empty = [label for label, count in zip(plan.labels, counts, strict=True) if not count]
    if empty:
        raise DatasetUnusable(
            f"no training image of {', '.join(map(repr, empty))}; every class needs at least one"
        )
    if not len(plan.validation):
        raise DatasetUnusable("no image to validate on: give the dataset a `val` split or more images per class")


def canvas_of(preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing that makes canvases: the whole middle square of the resized image where serving crops."""
    if preprocessing.fit == "squash":
        return preprocessing
    scale = preprocessing.resize / max(preprocessing.height, preprocessing.width)
    return dataclasses.replace(
        preprocessing, height=round(preprocessing.height * scale), width=round(preprocessing.width * scale)
    )


class Pixels:
    """Prepared images of one list, uint8 [n, height, width, 3], decoded once into a file that is mapped."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.array[index]
        return found


def pixels_key(images: ImageList, preprocessing: Preprocessing) -> str:
    """What the pixels depend on: the images' content, in order, and how they are prepared."""
    spec = {name: value for name, value in preprocessing.to_dict().items() if name not in ("mean", "std")}
    return hashlib.sha256(
        f"pixels/1/{images.content_hash}/{json.dumps(spec, sort_keys=True)}".encode()
    ).hexdigest()


def decode(
    images: ImageList,
    preprocessing: Preprocessing,
    cache: Path,
    *,
    threads: int = 2,
    max_pixels: int = MAX_PIXELS,
    tick: Tick | None = None,
) -> Pixels:
    """Every image of the list, prepared; from `cache` where the same images were prepared in the same way before.

    Raises ImageUnreadable and ImageTooManyPixels with the file's name, and OSError when the disk is full.
    """
    found = cache / f"{pixels_key(images, preprocessing)}.npy"
    shape = (len(images), preprocessing.height, preprocessing.width, 3)
    if not len(images):
        return Pixels(np.zeros(shape, np.uint8))
    if not found.exists():
        _decode_into(found, images, preprocessing, shape, threads=threads, max_pixels=max_pixels, tick=tick)
    found.touch()
    return Pixels(np.load(found, mmap_mode="r"))


def _decode_into(
    file: Path,
    images: ImageList,
    preprocessing: Preprocessing,
    shape: tuple[int, int, int, int],
    *,
    threads: int,
    max_pixels: int,
    tick: Tick | None,
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
        step = 16 * threads
        for start in range(0, len(images), step):
            chunk = slice(start, start + step)
            for i, prepared in enumerate(pool.map(one, images.paths[chunk], images.names[chunk]), start):
                out[i] = prepared
            if tick is not None:
                tick(min(start + step, len(images)), len(images))
        out.flush()
