"""Images that show nothing anybody teaches: crops of the photographs that ship with scikit-learn and matplotlib.

A temple, a flower and a portrait, at several scales. Knows no torch.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.preprocess import prepare
from models.spec import Preprocessing

# Both packages' licences are BSD's; the portrait is in the public domain.
PHOTOGRAPHS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}
# Part of each side that a crop covers -> rows and columns of such crops: 18 of each photograph.
GRIDS = {1.0: (1, 1), 0.6: (2, 2), 0.4: (2, 2), 0.3: (3, 3)}


def background(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """uint8 [n, height, width, 3], prepared as any image is; none where no photograph is installed."""
    crops = [prepare(_encoded(crop), preprocessing) for file in _files() for crop in _crops(file)]
    return np.stack(crops) if crops else np.zeros((0, preprocessing.height, preprocessing.width, 3), np.uint8)


def _files() -> Iterator[Path]:
    for package, names in PHOTOGRAPHS.items():
        found = find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            yield from (Path(folder, name) for name in names if Path(folder, name).is_file())


def _crops(file: Path) -> Iterator[Image.Image]:
    with Image.open(file) as opened:
        photograph = opened.convert("RGB")
    for part, (rows, columns) in GRIDS.items():
        width, height = round(photograph.width * part), round(photograph.height * part)
        for top in np.linspace(0, photograph.height - height, rows).round().astype(int).tolist():
            for left in np.linspace(0, photograph.width - width, columns).round().astype(int).tolist():
                yield photograph.crop((left, top, left + width, top + height))


def _encoded(image: Image.Image) -> bytes:
    """As the format that costs least to write and to read."""
    buffer = BytesIO()
    image.save(buffer, "BMP")
    return buffer.getvalue()
