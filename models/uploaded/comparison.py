"""The parity gate of a user's file: the artifact's graph must answer what the file itself answers.

The file is run as it is, one image at a time (as many as it is made for where that is fixed), on floats that are
computed here from the preprocessing's own formula: that the graph in front of it does the same is what is proven.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.devices import RUNTIME_ERRORS, open_session
from models.errors import ArtifactCorrupt, ExportMismatch, ModelFileRefused
from models.parity_report import BATCH_SIZES, ParityReport, softmax
from models.spec import LUMINANCE, OUTPUTS, Preprocessing
from models.uploaded.graph import GivenInput, Values

# So much for one image on one thread holds up whoever asks for another version.
LONGEST_S = 20.0
LONGEST_REASON = 300
SOURCE_LINES = re.compile(r"^.*Status Message: |/\S*onnxruntime\S*( onnxruntime::\S.*?\))?\s*", re.DOTALL)
# What rows of probabilities may be away from 1.
SUM_TOLERANCE = 1e-3
Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class GivenAnswers:
    """What the file itself answers, float32 `[n, classes]`, and how long one image took it."""

    rows: Rows
    seconds: float

    @property
    def look_like_probabilities(self) -> bool:
        return bool((self.rows >= 0).all() and (np.abs(self.rows.sum(1) - 1) <= SUM_TOLERANCE).all())


def answers_of(path: Path, given: GivenInput, output: str, images: Pixels, view: Preprocessing) -> GivenAnswers:
    """Raises ModelFileRefused where the file cannot be loaded or run, or its answers are none."""
    try:
        session = open_session(path, device="cpu").session
    except ArtifactCorrupt as exc:
        raise ModelFileRefused(f"ONNX Runtime refuses the file: {_reason(exc)}") from exc
    fed = floats_of(images, given, view)
    step = given.batch or 1
    fed = fed[np.arange(-(-len(fed) // step) * step) % len(fed)]
    parts: list[Rows] = []
    seconds = 0.0
    for start in range(0, len(fed), step):
        began = time.process_time()
        part = _run(session, given, output, fed[start : start + step])
        if start == 0:
            seconds = (time.process_time() - began) / step
            if seconds > LONGEST_S:
                raise ModelFileRefused(
                    f"the file takes {seconds:.1f} s of a processor for one image; expected at most {LONGEST_S:g}"
                )
            again = _run(session, given, output, fed[:step])
            if not np.array_equal(part, again, equal_nan=True):
                raise ModelFileRefused(
                    "the file answers otherwise when it is given the same image again; expected a network in "
                    "inference mode: call eval() before the export, and use no random operators"
                )
        parts.append(part)
    rows = np.concatenate(parts)[: len(images)]
    if not np.isfinite(rows).all():
        raise ModelFileRefused(
            "the file answers with infinite values or NaN for real photographs; were its weights saved after the "
            "training had diverged, or do mean and std belong to another network?"
        )
    if (rows == rows[0]).all():
        raise ModelFileRefused(
            f"the file answers the same for {len(images)} different photographs; expected a trained network that "
            "sees its input"
        )
    return GivenAnswers(rows, seconds)


def floats_of(images: Pixels, given: GivenInput, view: Preprocessing) -> NDArray[Any]:
    """What the file is fed for uint8 `[n, height, width, 3]`: its own layout, `(pixel / 255 - mean) / std`."""
    if given.layout == "pixels":
        return images
    values = (images / 255.0 - np.array(view.mean)) / np.array(view.std)
    if given.channels == 1:
        values = values @ np.array(LUMINANCE)[:, None]
    if given.layout == "nchw":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, np.float32)


def compare(
    model: Path, answers: GivenAnswers, images: Pixels, values: Values, temperature: float, outputs: Sequence[str]
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The report, as `models.parity` gives it, and the shape of each of `outputs` for three images.

    Probabilities are compared where the file gives those, else logits. Raises ExportMismatch with the report.
    """
    try:
        session = open_session(model, device="cpu").session
    except ArtifactCorrupt as exc:
        raise _mismatch(f"with a free batch ONNX Runtime refuses it: {_reason(exc)}") from exc
    count = max(len(images), *BATCH_SIZES)
    order = np.arange(count) % len(images)
    images, reference = images[order], answers.rows[order].astype(np.float64)
    tolerance = ParityReport.absolute_tolerance + ParityReport.relative_tolerance * np.abs(reference)
    agreed, beyond, difference, probability_difference = 0, 0, 0.0, 0.0
    for size in BATCH_SIZES:
        runs = [_wrapped_run(session, images[start : start + size]) for start in range(0, count, size)]
        logits, probabilities = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        found = logits if values == "logits" else probabilities
        if found.shape != reference.shape:
            raise _mismatch(f"it answers {list(found.shape)} for {count} images at batch {size}")
        apart = np.abs(found - reference)
        agreed += int((found.argmax(1) == reference.argmax(1)).sum())
        beyond += int((~(apart <= tolerance)).sum())
        difference = float(np.maximum(difference, apart.max()))
        softmax_apart = np.abs(probabilities - softmax(logits, temperature)).max()
        probability_difference = float(np.maximum(probability_difference, softmax_apart))
    report = ParityReport(
        images=len(answers.rows),
        batch_sizes=BATCH_SIZES,
        agreement=agreed / (count * len(BATCH_SIZES)),
        max_abs_diff=difference,
        beyond_tolerance=beyond,
        max_probability_diff=probability_difference,
    )
    told = {**report.to_dict(), "compared": values, "with": "the file as it was sent"}
    if not report.passed:
        raise ExportMismatch(_describe(report, values), told)
    shapes = session.run(list(outputs), {"image": images[:3]})
    return told, {name: found.shape for name, found in zip(outputs, shapes, strict=True)}


def _run(session: Any, given: GivenInput, output: str, fed: NDArray[Any]) -> Rows:
    try:
        (found,) = session.run([output], {given.name: fed})
    except RUNTIME_ERRORS as exc:
        raise ModelFileRefused(
            f"the file fails on {list(fed.shape)} {fed.dtype} of photographs: {_reason(exc)}"
        ) from exc
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[0] != len(fed):
        shape = list(found.shape) if isinstance(found, np.ndarray) else type(found).__name__
        raise ModelFileRefused(
            f"the file answers {shape} for a batch of {len(fed)}; expected [{len(fed)}, classes]: a row for each "
            "image"
        )
    if found.dtype != np.float32 or found.shape[1] < 2:
        raise ModelFileRefused(
            f"the file answers {found.dtype} {list(found.shape)}; expected float32 with two columns or more, one "
            "for "
            "each class: of a yes or no make two"
        )
    return found


def _wrapped_run(session: Any, images: Pixels) -> list[Rows]:
    try:
        found: list[Rows] = session.run(list(OUTPUTS), {"image": images})
    except RUNTIME_ERRORS as exc:
        raise _mismatch(f"it fails at batch {len(images)}: {_reason(exc)}") from exc
    return found


def _reason(error: Exception) -> str:
    """What ONNX Runtime says, without the lines of its own source."""
    said = re.sub(
        r"^.*Status Message: |/\S*onnxruntime\S*( onnxruntime::\S.*?\))?\s*", "", str(error), flags=re.DOTALL
    )
    return said.strip().rstrip(".")[:LONGEST_REASON]


def _mismatch(what: str) -> ExportMismatch:
    return ExportMismatch(
        f"the file cannot be given any number of images at once: {what}. Export it with a free batch dimension "
        "(dynamic_shapes of torch.onnx.export, or dynamic_axes of its older form), and in inference mode",
        {"passed": False},
    )


def _describe(report: ParityReport, values: Values) -> str:
    return (
        f"as it would be served the file answers otherwise than by itself. On {report.images} photographs at "
        "batch "
        f"{', '.join(map(str, report.batch_sizes))} the first class agrees in {report.agreement:.2%}; "
        f"{report.beyond_tolerance} {values} differ by more than {report.absolute_tolerance} + "
        f"{report.relative_tolerance} * |the file's|, by {report.max_abs_diff:.3g} at most. Images of a batch "
        "must not "
        "change each other's answers: export it in inference mode, with a free batch dimension"
    )
