"""Digits that the starter model has never seen, as PNG files: `python -m cli.up.samples FOLDER PER_DIGIT DATASET`.

DATASET is the folder where the digits lie as a dataset, or will: the training worker's cache, for instance.
A process of its own, for scikit-learn has no business in the command line's.
"""

import shutil
import sys
from collections import defaultdict
from pathlib import Path

from models.training.digits import open_digits


def write_samples(folder: Path, per_digit: int, dataset: Path) -> list[Path]:
    """Write the first `per_digit` test images of each digit as `digit-LABEL-NUMBER.png`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = open_digits(dataset)
    held_out = defaultdict(list)
    for sample in digits.samples:
        if sample.split == "test":
            held_out[sample.label].append(digits.path_of(sample))
    images = {
        folder / f"digit-{label}-{number}.png": image
        for label in sorted(held_out)
        for number, image in enumerate(held_out[label][:per_digit])
    }
    for path, image in images.items():
        shutil.copyfile(image, path)
    return list(images)


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
