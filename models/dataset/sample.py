"""One labelled picture of a dataset, and the order of labels. Knows no files."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

# The list of a dataset's samples, one to a line.
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Sample:
    """`sha256` is that of the file's bytes; `name` is the path under which the user sent it.

    `width` and `height` are pixels of the upright picture, `mode` is Pillow's name for how the file stores colour.
    `phash` is the 64-bit perceptual hash as 16 hexadecimal digits. `split` is None where the user named no splits.
    """

    sha256: str
    label: str
    split: SplitName | None
    name: str
    width: int
    height: int
    mode: str
    phash: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sample":
        """Unknown fields are ignored, so that a newer release's dataset can be read."""
        return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})


def natural_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels as a person sorts them: "2" before "10", "ant" beside "Ant"."""
    return tuple(sorted(set(labels), key=_natural_key))


def hash_content(samples: Iterable[Sample]) -> str:
    """The sha256, in hexadecimal, of the sorted lines `["<sha256>", "<label>", "<split>" or null]`.

    Two uploads with the same pictures, labels and splits have the same hash, whatever the files were called.
    """
    lines = sorted(json.dumps([s.sha256, s.label, s.split]) for s in samples)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _natural_key(label: str) -> tuple[list[tuple[int, str]], str]:
    pieces = re.split(r"([0-9]+)", label.casefold())
    numbers = [piece.lstrip("0") for piece in pieces[1::2]]
    # A number's digits sort by their count first, which is its size without converting it.
    pieces[1::2] = numbers
    return [(len(piece) if i % 2 else 0, piece) for i, piece in enumerate(pieces)], label
