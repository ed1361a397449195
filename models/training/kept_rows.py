"""Which image each row of a kept array is of: a list that shares images with an earlier one takes their rows.

Beside an array, whose name is its key, lies `KEY.GROUP.images`: the sha256 of its images, a line each. Arrays of
one group differ in their images alone. An array without such a file is whole all the same, and shares nothing.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from system.files import write_whole

SUFFIX = ".images"
# Revisions of one dataset share nearly all with the newest: more of them to look at would find little.
MOST_LISTS = 8


@dataclass(frozen=True)
class SharedRows:
    """Of the array `key`: its rows `theirs` are of the images at the places `ours`."""

    key: str
    ours: list[int]
    theirs: list[int]


@dataclass(frozen=True)
class KeptRows:
    """The lists of those arrays in one folder that are alike but for their images; `group` says what they are."""

    folder: Path
    group: str

    def touch(self, key: str) -> None:
        """It is used: what was used last stays longest."""
        with suppress(FileNotFoundError):
            os.utime(self._file(key))

    def write(self, key: str, sha256: Sequence[str]) -> None:
        """Once the array is there. Raises OSError on a full disk."""
        write_whole(self._file(key), "\n".join(sha256))

    def shared(self, sha256: Sequence[str]) -> list[SharedRows]:
        """Rows of these images in arrays that may be gone: each image at most once, the newest array first."""
        wanted = {image: place for place, image in enumerate(sha256)}
        found = []
        for file in sorted(self.folder.glob(f"*.{self._name}{SUFFIX}"), key=_age)[:MOST_LISTS]:
            with suppress(OSError):
                images = file.read_text().split("\n")
                theirs = [row for row, image in enumerate(images) if image in wanted]
                ours = [wanted.pop(images[row]) for row in theirs]
                if ours:
                    found.append(SharedRows(file.name.partition(".")[0], ours, theirs))
        return found

    @property
    def _name(self) -> str:
        return hashlib.sha256(self.group.encode()).hexdigest()[:16]

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.{self._name}{SUFFIX}"


def _age(file: Path) -> float:
    try:
        return -file.stat().st_mtime
    except OSError:
        return 0.0
