"""What one process does with one image when nothing is between them: the plain way, and Fovea's way.

Knows no HTTP and no queue.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.artifacts import FOVEA
from benchmarks.case import FOVEA_LOOP, LIMIT
from benchmarks.plain import PlainClassifier
from models.artifact import FLOAT32, Precision
from models.predictor import Predictor
from models.preprocess import prepare


class Classifier(Protocol):
    """The two halves of the work, so that each can be timed."""

    def prepare(self, data: bytes) -> NDArray[Any]: ...

    def infer(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits or probabilities, float32 `[1, classes]`."""
        ...


class FoveaClassifier:
    """The very code and session settings of the inference worker, one image at a time."""

    def __init__(self, artifacts: Path, precision: Precision = FLOAT32) -> None:
        self._predictor = Predictor(artifacts / FOVEA, precision=precision, device="cpu", intra_threads=1)

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """uint8 `[1, height, width, 3]`."""
        return prepare(data, self._predictor.preprocessing)[None]

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._predictor.predict(pixels).probabilities


CLASSIFIERS: dict[str, Callable[[Path], Classifier]] = {LIMIT: PlainClassifier, FOVEA_LOOP: FoveaClassifier}
