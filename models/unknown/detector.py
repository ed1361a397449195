"""A version's detector: a score, and from where on an image is unknown. Its file has arrays, and no pickle."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.artifact import Manifest, verify
from models.errors import ArtifactCorrupt
from models.unknown.scores import GeneralisedEntropy, Mahalanobis, NearestNeighbour, Rows, Score

FINDING = "unknown"
FILE = "unknown.npz"
# Of a version that was not taught here: its answers alone are read, and nothing says from where on.
UNFITTED: Mapping[str, Any] = {"method": GeneralisedEntropy.method, "file": None, "threshold": None}
# Of the archive: the same arrays are the same bytes.
NO_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Detector:
    """Scores above `threshold` are unknown; without one nobody knows which are."""

    score: Score
    threshold: float | None

    @property
    def output(self) -> str:
        """What it reads of the graph."""
        return self.score.output

    def judge(self, values: Rows) -> list[tuple[float, bool | None]]:
        """For each row of the output its score, and whether that is too high."""
        scores = self.score(values).tolist()
        if self.threshold is None:
            return [(score, None) for score in scores]
        return [(score, score > self.threshold) for score in scores]


def write_score(score: Score, file: Path) -> None:
    """Raises OSError on a full disk."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in score.arrays.items():
            buffer = io.BytesIO()
            npy.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", NO_DATE), buffer.getvalue())


def read_detector(folder: Path, manifest: Manifest, precision: str) -> Detector | None:
    """The detector of an artifact as it is served in `precision`; None where it has none that this release knows.

    Raises ArtifactCorrupt where its file is not the published one or does not fit the network.
    """
    facts = manifest.findings.get(FINDING) or {}
    method = facts.get("method")
    try:
        threshold = (facts.get("thresholds") or {}).get(precision, facts.get("threshold"))
        if threshold is not None:
            threshold = float(threshold)
        if method == GeneralisedEntropy.method:
            return Detector(GeneralisedEntropy(), threshold)
        if method not in (Mahalanobis.method, NearestNeighbour.method):
            return None
        verify(folder, [FILE])
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            score = _score(str(method), arrays, manifest)
    except (AttributeError, KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as exc:
        raise ArtifactCorrupt(f"{FILE} in {folder.name} cannot be used: {type(exc).__name__}: {exc}") from exc
    return Detector(score, threshold)


def _score(method: str, arrays: Mapping[str, NDArray[np.floating]], manifest: Manifest) -> Score:
    sizes = manifest.outputs.get("embedding")
    found: Mahalanobis | NearestNeighbour
    if method == NearestNeighbour.method:
        found = NearestNeighbour(arrays["rows"])
        dimensions = {found.rows.shape[1]}
    else:
        found = Mahalanobis(
            float(arrays["scale"][0]),
            arrays["directions"].astype(np.float32),
            arrays["linear"].astype(np.float32),
            arrays["offsets"].astype(np.float32),
        )
        dimensions = {found.directions.shape[0], found.linear.shape[0]}
    if [dimensions] != [set(sizes or ())]:
        raise ValueError(f"it is for embeddings of {sorted(dimensions)}, the graph gives {sizes}")
    return found
