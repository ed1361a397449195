"""The gate of a variant: as good as float32 on labelled images that calibrated nothing, and faster; or not served.

Both graphs run on the CPU with one thread. Knows no onnx and not how the variant was made.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.devices import RUNTIME_ERRORS, open_session, runtime_reason
from models.errors import InvalidBatch, PredictionFailed
from models.spec import INPUT, OUTPUTS
from models.training.metrics import Z_95, expected_calibration_error, reliability_curve

# DESIGN section 6.
MOST_POINTS_LOST = 0.5
# Of fewer than 200 images one is more than half a point, and float16 loses one about as often as it gains one.
MOST_IMAGES_LOST = 1
LEAST_AGREEMENT = 0.98
MOST_CALIBRATION_ERROR_ADDED = 0.01
# The best of interleaved runs repeats within 3 % here. Less than a tenth is not worth a second file to ship, to
# load and to explain.
LEAST_SPEEDUP = 1.1
# With fewer, one answer that differs is more than the two in a hundred that the gate allows.
FEWEST_IMAGES = 50

BATCH = 8
# Runs of each graph in turn: enough for the best of them to be free of other work on the machine.
FEWEST_ROUNDS, MOST_ROUNDS = 8, 60
LONGEST_S = 4.0


@dataclass(frozen=True)
class Verdict:
    """As in `VariantReport`; `reason` is None where it passed."""

    passed: bool
    reason: str | None
    images: int
    accuracy_float32: float
    accuracy: float
    difference: float
    difference_interval: tuple[float, float]
    agreement: float
    calibration_error_float32: float
    calibration_error: float
    seconds_float32: float | None
    seconds: float | None

    @property
    def speedup(self) -> float | None:
        if self.seconds is None or self.seconds_float32 is None:
            return None
        return self.seconds_float32 / self.seconds


@dataclass(frozen=True)
class Answers:
    """float32 `[n, classes]` each."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


class Gate:
    """The reference and its answers, found once; each variant is then judged against them.

    `images` are uint8 `[n, height, width, 3]`, as `models.preprocess.prepare` makes them, `labels` int64 `[n]`.
    Raises InvalidBatch where they do not fit together or are fewer than `FEWEST_IMAGES`, ArtifactCorrupt where the
    reference cannot be loaded.
    """

    def __init__(self, reference: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != (len(images),):
            raise InvalidBatch(
                f"the gate was given images {images.dtype} {list(images.shape)} and labels {list(labels.shape)}; "
                "expected uint8 [n, height, width, 3] and a label for each"
            )
        if len(images) < FEWEST_IMAGES:
            raise InvalidBatch(
                f"a variant is judged on at least {FEWEST_IMAGES} labelled images, and {len(images)} were given"
            )
        self._reference = reference
        self._images = images
        self._labels = labels
        self.reference_answers = answers(reference, images)

    def judge(self, variant: Path, *, measure_speed: bool = True) -> Verdict:
        """Raises ArtifactCorrupt where the variant cannot be loaded, PredictionFailed where it cannot run."""
        return self.verdict_on(variant, answers(variant, self._images), measure_speed=measure_speed)

    def verdict_on(self, variant: Path, found: Answers, *, measure_speed: bool = True) -> Verdict:
        """The verdict where the variant's answers are known already."""
        expected = self.reference_answers
        if found.logits.shape != expected.logits.shape or not np.isfinite(found.logits).all():
            raise PredictionFailed(f"{variant.name} answers with {_faults(found, expected)}")
        right, right_float32 = self._right(found), self._right(expected)
        seconds_float32, seconds = (None, None)
        if measure_speed:
            seconds_float32, seconds = seconds_an_image(self._reference, variant, self._images)
        verdict = Verdict(
            passed=True,
            reason=None,
            images=len(self._images),
            accuracy_float32=float(right_float32.mean()),
            accuracy=float(right.mean()),
            difference=100 * float(right.mean() - right_float32.mean()),
            difference_interval=paired_interval(right_float32, right),
            agreement=agreement(expected, found),
            calibration_error_float32=self._calibration_error(expected),
            calibration_error=self._calibration_error(found),
            seconds_float32=seconds_float32,
            seconds=seconds,
        )
        faults = _objections(verdict)
        return verdict if not faults else _refused(verdict, "; ".join(faults))

    def _right(self, given: Answers) -> NDArray[np.bool_]:
        return np.asarray(given.logits.argmax(axis=1) == self._labels)

    def _calibration_error(self, given: Answers) -> float:
        return expected_calibration_error(reliability_curve(given.probabilities.astype(np.float64), self._labels))


def judge(
    reference: Path,
    variant: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    measure_speed: bool = True,
) -> Verdict:
    """`variant` against `reference`, two ONNX files as artifacts hold them; raises what `Gate` does."""
    return Gate(reference, images, labels).judge(variant, measure_speed=measure_speed)


def answers(model: Path, images: NDArray[np.uint8]) -> Answers:
    """What an ONNX file answers, on the CPU. Raises ArtifactCorrupt or PredictionFailed."""
    session = open_session(model, device="cpu").session
    parts = [_run(session, model, images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    logits, probabilities = (np.concatenate(outputs) for outputs in zip(*parts, strict=True))
    return Answers(logits, probabilities)


def agreement(one: Answers, other: Answers) -> float:
    """The fraction of images with the same first class."""
    return float((one.logits.argmax(axis=1) == other.logits.argmax(axis=1)).mean())


def seconds_an_image(reference: Path, variant: Path, images: NDArray[np.uint8]) -> tuple[float, float]:
    """The least of interleaved runs of one image each, `(reference, variant)`; raises as `answers` does."""
    first, second = interleaved_seconds([reference, variant], images)
    return first, second


def interleaved_seconds(models: Sequence[Path], images: NDArray[np.uint8]) -> list[float]:
    """For each ONNX file the least processor time of its runs of one image, on one thread of the CPU.

    The models take turns, so that what else fills the caches meets all of them. Raises ArtifactCorrupt or
    PredictionFailed.
    """
    sessions = [open_session(model, device="cpu").session for model in models]
    best = [math.inf] * len(models)
    begun = time.monotonic()
    for number in range(MOST_ROUNDS + 1):
        image = images[number % len(images)][None]
        for which, (session, model) in enumerate(zip(sessions, models, strict=True)):
            # With one thread all of it runs in this one. By the clock on the wall what else the machine does
            # made the same graph five times as fast as itself.
            before = time.thread_time()
            _run(session, model, image)
            # The first run allocates.
            if number:
                best[which] = min(best[which], time.thread_time() - before)
        if number >= FEWEST_ROUNDS and time.monotonic() - begun > LONGEST_S:
            break
    return best


def paired_interval(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float]:
    """Where the difference of two accuracies on the same images lies with 95 %, in points.

    The adjusted Wald interval of Bonett and Price (2012): it has a width where no answer changed, and keeps its
    coverage with few images.
    """
    n = len(before) + 2
    gained = (int((after & ~before).sum()) + 1) / n
    lost = (int((before & ~after).sum()) + 1) / n
    margin = Z_95 * math.sqrt((gained + lost - (gained - lost) ** 2) / n)
    return 100 * max(-1.0, gained - lost - margin), 100 * min(1.0, gained - lost + margin)


def _run(session: Any, model: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    try:
        found: list[NDArray[np.float32]] = session.run(list(OUTPUTS), {INPUT: images})
    except RUNTIME_ERRORS + (ValueError,) as exc:  # noqa: RUF005
        raise PredictionFailed(f"{model.name} cannot be run: {runtime_reason(exc, model)}") from exc
    return found


def _objections(verdict: Verdict) -> list[str]:
    found = []
    low, high = verdict.difference_interval
    # What is exactly at a bar must not fail by the last bit of a float.
    allowed = max(MOST_POINTS_LOST, 100 * MOST_IMAGES_LOST / verdict.images)
    if verdict.difference < -allowed - 1e-9:
        found.append(
            f"its accuracy is {-verdict.difference:.2f} points below float32's ({verdict.accuracy:.2%} against "
            f"{verdict.accuracy_float32:.2%} of {verdict.images} images, 95 % between {low:+.2f} and "
            f"{high:+.2f}), where at most {allowed:.2g} is allowed"
        )
    if verdict.agreement < LEAST_AGREEMENT - 1e-12:
        found.append(
            f"{verdict.agreement:.2%} of its answers agree with float32's, where at least "
            f"{LEAST_AGREEMENT:.0%} must"
        )
    added = verdict.calibration_error - verdict.calibration_error_float32
    if added > MOST_CALIBRATION_ERROR_ADDED + 1e-12:
        found.append(
            f"its calibration error is {verdict.calibration_error:.3f} against "
            f"{verdict.calibration_error_float32:.3f}, where at most {MOST_CALIBRATION_ERROR_ADDED:g} more "
            "is allowed"
        )
    if verdict.speedup is not None and verdict.speedup < LEAST_SPEEDUP:
        found.append(
            f"it is {verdict.speedup:.2f} times as fast as float32 ({1e3 * (verdict.seconds or 0):.2f} against "
            f"{1e3 * (verdict.seconds_float32 or 0):.2f} ms an image), where less than {LEAST_SPEEDUP:g} "
            "is not worth it"
        )
    return found


def _refused(verdict: Verdict, reason: str) -> Verdict:
    return Verdict(**{**vars(verdict), "passed": False, "reason": reason})


def _faults(found: Answers, expected: Answers) -> str:
    if found.logits.shape != expected.logits.shape:
        return f"logits of the shape {list(found.logits.shape)}; float32 gives {list(expected.logits.shape)}"
    return "numbers that are not finite"
