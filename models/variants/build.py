"""A variant of a version: made by one recipe after the other until one passes the gate, or refused."""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from models.artifact import Precision
from models.errors import InvalidBatch
from models.variants.attempts import Attempts, Stopped, Watcher, with_facts_of
from models.variants.float16 import float16
from models.variants.gate import FEWEST_IMAGES, Gate
from models.variants.report import PRECISIONS, Recipe, VariantReport
from models.variants.search import search
from system.files import written_whole

# What is seen of the activations settles with about so many; more would only take longer.
MOST_CALIBRATION_IMAGES = 128


def build(
    model: Path,
    target: Path,
    precision: Precision,
    *,
    calibration: NDArray[np.uint8],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    budget_s: float = 300.0,
    watcher: Watcher | None = None,
) -> VariantReport:
    """Write `target`, a variant of the float32 `model`, if one passes the gate; there is no file if none does.

    `calibration` and `images` are uint8 `[n, height, width, 3]`, as `models.preprocess.prepare` makes them, and
    hold no image in common; `labels` are int64 `[n]`, of `images`. Past `budget_s` seconds no further recipe is
    begun. `watcher` is told how many steps are done, and of how many at most, and again for each image that is
    looked at; what it raises ends the work.

    Whatever ONNX Runtime's tools cannot do with the model is a report that says so. Raises InvalidBatch for arrays
    that are not as said, ArtifactCorrupt where `model` cannot be loaded, OSError where `target` cannot be written.
    """
    _check(precision, calibration, images, labels)
    deadline = time.monotonic() + budget_s
    calibration = _some(calibration, MOST_CALIBRATION_IMAGES)
    if len(images) < FEWEST_IMAGES:
        reason = f"a variant is judged on at least {FEWEST_IMAGES} labelled images, and there are {len(images)}"
        return VariantReport(precision, False, reason, len(images), len(calibration))
    gate = Gate(model, images, labels)
    with tempfile.TemporaryDirectory(prefix="fovea-variant-") as folder:
        attempts = Attempts(gate, Path(folder), measure_speed=precision == "int8")
        if precision == "fp16":
            _try_float16(attempts, model, watcher)
        else:
            try:
                search(attempts, model, Path(folder), calibration, deadline, watcher)
            except Stopped as stopped:
                raise stopped.cause from None
        if attempts.passed is not None:
            with written_whole(target) as part:
                shutil.copyfile(attempts.passed, part)
    return attempts.report(precision, len(images), len(calibration) if precision == "int8" else 0)


def _try_float16(attempts: Attempts, model: Path, watcher: Watcher | None) -> None:
    attempts.attempt(Recipe(), lambda: with_facts_of(onnx.load(model), float16(onnx.load(model))))
    if watcher is not None:
        watcher(1, 1)


def _check(
    precision: str, calibration: NDArray[np.uint8], images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    if precision not in PRECISIONS or precision == "float32":
        raise InvalidBatch(f"there is no variant {precision!r}; make one of int8, fp16")
    for name, array in (("calibration", calibration), ("judged", images)):
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not len(array):
            raise InvalidBatch(
                f"the {name} images are {array.dtype} {list(array.shape)}; expected uint8 [n, height, width, 3]"
            )
    if labels.shape != (len(images),):
        raise InvalidBatch(f"there are {len(images)} judged images and labels {list(labels.shape)}")
    if np.shares_memory(calibration, images) or np.array_equal(calibration, images):
        raise InvalidBatch("the judged images are those that calibrate; a gate needs images that it has not seen")


def _some(images: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """At most so many of them, spread evenly: datasets lie class by class."""
    if len(images) <= most:
        return images
    chosen: NDArray[np.uint8] = images[np.linspace(0, len(images) - 1, most).round().astype(int)]
    return chosen
