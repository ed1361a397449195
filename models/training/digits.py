"""The starter dataset: 1,797 handwritten digits (Alpaydin and Kaynak 1998), 8 x 8 grey pixels.

They lie in `digits.npz`, images uint8 [1797, 8, 8] of ink from 0 to 16, so that a worker without scikit-learn has
them too. From the UCI Machine Learning Repository, "Optical Recognition of Handwritten Digits",
https://doi.org/10.24432/C50P49, licence CC BY 4.0.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.dataset.errors import DatasetExists
from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.dataset.sample import SPLITS

# `splits` are places in `SPLITS`: scikit-learn's `train_test_split`, stratified, with these.
TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.15
SPLIT_SEED = 1998
FILE = Path(__file__).with_suffix(".npz")


def open_digits(folder: Path) -> DatasetFolder:
    """The dataset in `folder`, made there on first use; train, val and test are fixed and stratified."""
    try:
        return DatasetFolder.open(write_dataset(folder, _images()).path)
    except DatasetExists:
        return DatasetFolder.open(folder)


def _images() -> Iterator[LabelledImage]:
    with np.load(FILE) as digits:
        images, labels, splits = digits["images"], digits["labels"], digits["splits"]
    for i, (image, label, split) in enumerate(zip(images, labels, splits, strict=True)):
        yield LabelledImage(_png(image), str(label), SPLITS[split], f"{label}/{i:04d}.png")


def _png(digit: NDArray[np.uint8]) -> bytes:
    """Ink counts 0 to 16 as grey 0 to 255: white ink on black, as scikit-learn shows them."""
    buffer = BytesIO()
    Image.fromarray((digit * (255 / 16)).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
