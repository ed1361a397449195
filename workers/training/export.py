"""A network as the graph that is served, written and proven: for a fine-tune and for published weights alike."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.artifact import MODEL
from models.parity import check_parity
from models.parity_report import ParityReport
from models.spec import Preprocessing
from workers.training.progress import ProgressReporter

# Writes the ONNX graph of a network and tells its outputs, as `models.export.to_onnx` does.
Exporter = Callable[..., dict[str, list[int]]]


@dataclass(frozen=True)
class ExportedGraph:
    """`outputs` are the graph's, with their sizes for one image."""

    outputs: dict[str, list[int]]
    parity: ParityReport


def export_network(
    exporter: Exporter,
    network: nn.Module,
    folder: Path,
    *,
    images: NDArray[np.uint8],
    preprocessing: Preprocessing,
    labels: Sequence[str],
    channels: int = 3,
    temperature: float = 1.0,
    backbone: Path | None = None,
    reporter: ProgressReporter,
) -> ExportedGraph:
    """Empties `folder`, writes the graph into it, and compares its answers with the network's.

    `images` are prepared, uint8 [n, height, width, 3]; `backbone` is the graph that the head is put onto, if
    there is one. Raises ExportFailed, ExportMismatch and OSError.
    """
    reporter.phase("exporting")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    outputs = exporter(
        network.cpu().eval(),
        folder / MODEL,
        preprocessing=preprocessing,
        labels=labels,
        channels=channels,
        temperature=temperature,
        backbone=backbone,
    )
    reporter.phase("verifying")
    parity = check_parity(
        network,
        folder / MODEL,
        images,
        preprocessing=preprocessing,
        channels=channels,
        temperature=temperature,
    )
    return ExportedGraph(outputs, parity)
