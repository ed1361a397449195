"""The starter dataset: scikit-learn's 1,797 handwritten digits (Alpaydin and Kaynak 1998), 8 x 8 grey pixels."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from models.dataset.errors import DatasetExists
from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.dataset.sample import SplitName

TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.15
SPLIT_SEED = 1998


def open_digits(folder: Path) -> DatasetFolder:
    """The dataset in `folder`, made there on first use; train, val and test are fixed and stratified."""
    try:
        return DatasetFolder.open(write_dataset(folder, _images()).path)
    except DatasetExists:
        return DatasetFolder.open(folder)


def _images() -> Iterator[LabelledImage]:
    # Imported here: scikit-learn takes a second, which only the first use of the dataset should cost.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    indices = np.arange(len(digits.target))
    rest, test = train_test_split(
        indices, test_size=TEST_FRACTION, stratify=digits.target, random_state=SPLIT_SEED
    )
    train, val = train_test_split(
        rest, test_size=VALIDATION_FRACTION, stratify=digits.target[rest], random_state=SPLIT_SEED
    )
    split_of: dict[int, SplitName] = (
        dict.fromkeys(train, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    )
    for i in indices:
        label = str(digits.target[i])
        yield LabelledImage(_png(digits.images[i]), label, split_of[int(i)], f"{label}/{i:04d}.png")


def _png(digit: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> bytes:
    """Ink counts 0 to 16 as grey 0 to 255: white ink on black, as scikit-learn shows them."""
    buffer = BytesIO()
    Image.fromarray((digit * (255 / 16)).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
