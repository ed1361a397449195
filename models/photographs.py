"""Real images for the parity gate where a user gave none: crops of the two photographs that scikit-learn ships.

Random pixels excite a trained network in ways that no photograph does, so they prove little. Knows no torch.
"""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from models.preprocess import prepare
from models.spec import Preprocessing

# Part of each side that a crop covers -> rows and columns of such crops: 34 for each photograph.
GRIDS = {1.0: (1, 1), 0.7: (2, 2), 0.5: (3, 3), 0.35: (4, 5)}


def photographs(preprocessing: Preprocessing, count: int | None = None) -> NDArray[np.uint8]:
    """68 views, or `count` of them spread evenly: uint8 `[n, height, width, 3]`, prepared as any image is."""
    crops = [crop for photograph in load_sample_images().images for crop in _crops(Image.fromarray(photograph))]
    if count is not None:
        chosen = np.linspace(0, len(crops) - 1, min(count, len(crops))).round().astype(int)
        crops = [crops[index] for index in chosen]
    return np.stack([prepare(_encode(crop), preprocessing) for crop in crops])


def _crops(photograph: Image.Image) -> Iterator[Image.Image]:
    for part, (rows, columns) in GRIDS.items():
        width, height = round(photograph.width * part), round(photograph.height * part)
        for top in np.linspace(0, photograph.height - height, rows).round().astype(int):
            for left in np.linspace(0, photograph.width - width, columns).round().astype(int):
                yield photograph.crop((left, top, left + width, top + height))


def _encode(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
