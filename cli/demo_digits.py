"""The demo's two datasets of handwritten digits, as files: `python -m cli.demo_digits FOLDER PER_DIGIT DATASET`.

In FOLDER: `0-4` and `0-9`, each with `train/` and `val/` over a folder for each digit, and `unseen`, up to
PER_DIGIT test images of each digit as `digit-LABEL-NUMBER.png`, which are in neither. DATASET is where the
digits lie as a dataset, or will. A process of its own: scikit-learn has no business in the command line's.
"""

import shutil
import sys
from pathlib import Path

from cli.up.samples import write_samples
from models.training.digits import open_digits

LABELS = {"0-4": "01234", "0-9": "0123456789"}
UNSEEN = "unseen"


def write_digits(folder: Path, per_digit: int, dataset: Path) -> None:
    """Write the folders named above; what is there already is written anew."""
    write_samples(folder / UNSEEN, per_digit, dataset)
    digits = open_digits(dataset)
    for number, sample in enumerate(digits.samples):
        for name, labels in LABELS.items():
            if sample.split not in ("train", "val") or sample.label not in labels:
                continue
            target = folder / name / sample.split / sample.label / f"{number:04d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(digits.path_of(sample), target)


if __name__ == "__main__":
    write_digits(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
