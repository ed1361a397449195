"""What one process does with one image when nothing is between them: the plain way, and Fovea's way.

The plain way is what a tutorial shows: decode all of it with Pillow, resize, crop, normalise with numpy, and an
ONNX Runtime session with its defaults. Knows no HTTP and no queue.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from benchmarks.artifacts import FOVEA, PLAIN
from models.artifact import read_manifest
from models.predictor import Predictor
from models.preprocess import prepare
from models.spec import Preprocessing


class Classifier(Protocol):
    """The two halves of the work, so that each can be timed."""

    def prepare(self, data: bytes) -> NDArray[Any]: ...

    def infer(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits or probabilities, float32 `[1, classes]`."""
        ...


class PlainClassifier:
    """`threads=0` leaves ONNX Runtime its default: one thread for each core of the machine, in every process."""

    def __init__(self, artifacts: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            artifacts / PLAIN, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._preprocessing = read_manifest(artifacts / FOVEA).preprocessing

    def prepare(self, data: bytes) -> NDArray[np.float32]:
        """float32 `[1, 3, height, width]`, normalised."""
        return plain_pixels(data, self._preprocessing)

    def infer(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = self._session.run(None, {self._input: pixels})
        return np.asarray(logits, np.float32)


class FoveaClassifier:
    """The very code and session settings of the inference worker, one image at a time."""

    def __init__(self, artifacts: Path) -> None:
        self._predictor = Predictor(artifacts / FOVEA, device="cpu", intra_threads=1)

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """uint8 `[1, height, width, 3]`."""
        return prepare(data, self._predictor.preprocessing)[None]

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._predictor.predict(pixels).probabilities


CLASSIFIERS: dict[str, Callable[[Path], Classifier]] = {
    "limit": PlainClassifier,
    "limit-1-thread": lambda artifacts: PlainClassifier(artifacts, threads=1),
    "fovea-loop": FoveaClassifier,
}


def plain_pixels(data: bytes, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Shorter side to `resize`, bilinear; the centre cut out; `(pixel / 255 - mean) / std`; channels first."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = preprocessing.resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left = (image.width - preprocessing.width) // 2
    top = (image.height - preprocessing.height) // 2
    view = image.crop((left, top, left + preprocessing.width, top + preprocessing.height))
    pixels = np.asarray(view, np.float32) / 255
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None])
