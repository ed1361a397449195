"""The plain way to classify an image, as tutorials show it: Pillow, numpy, ONNX Runtime with one thread.

Decodes all of the image, resizes, crops, normalises. Imports nothing of Fovea: the loop without a server and every
peer, each in its own environment, run this very code.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

PLAIN = "plain.onnx"
FACTS = "plain.json"
TOP_K = 5

# The classes of one image, best first: index, label and probability of each.
Classes = list[dict[str, Any]]


@dataclass(frozen=True)
class View:
    """What the network sees of an image: pixels, and the mean and standard deviation of each channel."""

    resize: int
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class PlainClassifier:
    """`folder` holds `plain.onnx` and `plain.json`, the view and the labels."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / FACTS).read_text("utf-8"))
        self._view = View(**facts["view"])
        self._labels: list[str] = facts["labels"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(folder / PLAIN, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def prepare(self, data: bytes | Image.Image) -> NDArray[np.float32]:
        """float32 `[1, 3, height, width]`, normalised."""
        return plain_pixels(data, self._view)

    def infer(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch: float32 `[n, classes]`."""
        (logits,) = self._session.run(None, {self._input: pixels})
        return np.asarray(logits, np.float32)

    def classify(self, images: Sequence[bytes | Image.Image]) -> list[Classes]:
        """The classes of each encoded (or opened) image; all images are one batch."""
        pixels = [self.prepare(data) for data in images]
        batch = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
        return [self._best(probabilities) for probabilities in softmax(self.infer(batch))]

    def _best(self, probabilities: NDArray[np.float32]) -> Classes:
        return [
            {"index": int(index), "label": self._labels[index], "probability": float(probabilities[index])}
            for index in np.argsort(-probabilities)[:TOP_K]
        ]


def plain_pixels(data: bytes | Image.Image, view: Any) -> NDArray[np.float32]:
    """Shorter side to `resize`, bilinear; the centre cut out; `(pixel / 255 - mean) / std`; channels first."""
    image = (Image.open(io.BytesIO(data)) if isinstance(data, bytes) else data).convert("RGB")
    scale = view.resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left = (image.width - view.width) // 2
    top = (image.height - view.height) // 2
    cut = image.crop((left, top, left + view.width, top + view.height))
    pixels = np.asarray(cut, np.float32) / 255
    mean, std = np.array(view.mean, np.float32), np.array(view.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of each row."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)
