"""One file or folder of a dataset's source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """`name` is a safe relative path. `garbled`: it was in no known encoding, so some of its letters are guessed.

    `chunks` reads the bytes, once; it raises ArchiveError. A folder has none.
    """

    name: str
    is_folder: bool
    garbled: bool
    chunks: Callable[[], Iterator[bytes]]
