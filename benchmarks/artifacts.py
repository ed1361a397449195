"""The same network in two files, a plain graph and Fovea's artifact, made by another process: no torch here."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.artifact import read_manifest

FOVEA = "fovea"


@dataclass(frozen=True)
class Artifacts:
    """`folder` holds `plain.onnx` (float32 `[n, 3, height, width]` in, logits `[n, classes]` out) with
    `plain.json`, and Fovea's artifact in `fovea/`.
    """

    model: str
    folder: Path

    @property
    def fovea(self) -> Path:
        return self.folder / FOVEA

    @property
    def weights(self) -> str:
        """In words: what the network's values are."""
        weights = read_manifest(self.fovea).weights
        if weights.get("origin") == "none":
            return "random (seeded), batch normalisation fitted to the photographs"
        return f"{weights['origin']}: {weights.get('filename', weights.get('name', ''))}"


class ExportProcessFailed(Exception):
    """The exporting process ended with an error; the text is its last lines."""


def make_artifacts(
    model: str, folder: Path, photographs: Path, variant: Literal["int8", "fp16"] = "int8"
) -> Artifacts:
    """Export `model` twice into `folder`, and a variant that nobody has judged. Raises ExportProcessFailed.

    `photographs` is a folder of images for the parity gate and, without published weights, for the statistics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.exporter", model, str(folder), str(photographs), variant]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportProcessFailed("\n".join(done.stderr.strip().splitlines()[-12:]))
    return Artifacts(model, folder)


def weights_folder() -> Path | None:
    """Where published weights may lie: FOVEA_WEIGHTS_DIR, else the test data's."""
    named = os.environ.get("FOVEA_WEIGHTS_DIR")
    if named:
        return Path(named)
    data = os.environ.get("FOVEA_TEST_DATA")
    return Path(data) / "weights" if data else None
