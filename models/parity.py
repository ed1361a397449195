"""The parity gate: the exported graph must compute what torch computes, on real images, or it is not published."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.devices import open_session
from models.errors import ExportMismatch, InvalidBatch
from models.served import Served
from models.spec import Preprocessing

BATCH_SIZES = (1, 3, 8)
ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-3
# Softmax is computed twice in float32; its outputs are at most 1.
PROBABILITY_TOLERANCE = 1e-5


@dataclass(frozen=True)
class ParityReport:
    """What the gate compared and found.

    `agreement` is the fraction of answers with the same first class, over all batch sizes; `max_abs_diff` the
    largest difference between two logits; `beyond_tolerance` how many logits differ by more than
    `absolute_tolerance + relative_tolerance * |torch's logit|`; `max_probability_diff` the largest difference
    between the graph's probabilities and `softmax(logits / temperature)`.
    """

    images: int
    batch_sizes: tuple[int, ...]
    agreement: float
    max_abs_diff: float
    beyond_tolerance: int
    max_probability_diff: float
    absolute_tolerance: float = ABSOLUTE_TOLERANCE
    relative_tolerance: float = RELATIVE_TOLERANCE

    @property
    def passed(self) -> bool:
        # NaN compares false, so a graph or a network that gives NaN does not pass.
        return (
            self.agreement == 1.0
            and self.beyond_tolerance == 0
            and self.max_probability_diff <= PROBABILITY_TOLERANCE
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; a number that is not finite becomes null, since JSON has none such."""
        values = {**dataclasses.asdict(self), "batch_sizes": list(self.batch_sizes), "passed": self.passed}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def check_parity(
    network: nn.Module,
    model: Path,
    images: NDArray[np.uint8],
    *,
    preprocessing: Preprocessing,
    channels: int = 3,
    temperature: float = 1.0,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
) -> ParityReport:
    """Compare the ONNX file `model`, on the CPU, with the torch network that it was exported from.

    `images` are real ones, uint8 `[n, height, width, 3]`, as `models.preprocess.prepare` makes them. Where there
    are fewer than the largest batch, they are repeated to fill it. Raises InvalidBatch without images, and
    ExportMismatch, with the report, when the gate does not pass.
    """
    if not len(images):
        raise InvalidBatch("the parity gate needs real images, and was given none")
    given = len(images)
    images = images[np.arange(max(given, *batch_sizes)) % given]
    served = Served(network, preprocessing, channels=channels, temperature=temperature)
    reference = _torch_logits(served, images, max(batch_sizes))
    session = open_session(model, device="cpu", intra_threads=torch.get_num_threads()).session
    agreed, beyond, difference, probability_difference = 0, 0, 0.0, 0.0
    tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(reference)
    for batch_size in batch_sizes:
        parts = [
            session.run(["logits", "probabilities"], {"image": images[start : start + batch_size]})
            for start in range(0, len(images), batch_size)
        ]
        logits = np.concatenate([part[0] for part in parts])
        probabilities = np.concatenate([part[1] for part in parts])
        apart = np.abs(logits - reference)
        agreed += int((logits.argmax(1) == reference.argmax(1)).sum())
        beyond += int((~(apart <= tolerance)).sum())
        difference = float(np.maximum(difference, apart.max()))
        softmax_apart = np.abs(probabilities - _softmax(logits, temperature)).max()
        probability_difference = float(np.maximum(probability_difference, softmax_apart))
    report = ParityReport(
        images=given,
        batch_sizes=batch_sizes,
        agreement=agreed / (len(images) * len(batch_sizes)),
        max_abs_diff=difference,
        beyond_tolerance=beyond,
        max_probability_diff=probability_difference,
    )
    if not report.passed:
        raise ExportMismatch(_describe(report), report.to_dict())
    return report


@torch.inference_mode()
def _torch_logits(served: Served, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    parts = [
        served(torch.from_numpy(images[start : start + batch_size]))[0].numpy()
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)


def _softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _describe(report: ParityReport) -> str:
    return (
        f"the exported graph does not compute what torch computes. On {report.images} images at batch "
        f"{', '.join(map(str, report.batch_sizes))} the first class agrees in {report.agreement:.2%}; "
        f"{report.beyond_tolerance} logits differ by more than "
        f"{report.absolute_tolerance} + {report.relative_tolerance} * |torch's|; "
        f"the largest difference is {report.max_abs_diff:.3g}, of probabilities {report.max_probability_diff:.3g}"
    )
