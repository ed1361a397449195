"""The parity gate: the exported graph must compute what torch computes, on real images, or it is not published."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.devices import open_session
from models.errors import ExportMismatch, InvalidBatch
from models.parity_report import ABSOLUTE_TOLERANCE, BATCH_SIZES, RELATIVE_TOLERANCE, ParityReport, softmax
from models.served import Served
from models.spec import Preprocessing


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
        softmax_apart = np.abs(probabilities - softmax(logits, temperature)).max()
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


def _describe(report: ParityReport) -> str:
    return (
        f"the exported graph does not compute what torch computes. On {report.images} images at batch "
        f"{', '.join(map(str, report.batch_sizes))} the first class agrees in {report.agreement:.2%}; "
        f"{report.beyond_tolerance} logits differ by more than "
        f"{report.absolute_tolerance} + {report.relative_tolerance} * |torch's|; "
        f"the largest difference is {report.max_abs_diff:.3g}, of probabilities {report.max_probability_diff:.3g}"
    )
