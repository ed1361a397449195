"""Files that commands write for their user: whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cli.errors import FileNotWritten
from system.files import written_whole


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is at `path`, in a folder that is there, once the context ends well.

    Raises FileNotWritten.
    """
    if not path.parent.is_dir():
        raise FileNotWritten(f"{path} cannot be written: there is no folder {path.parent}")
    try:
        with written_whole(path) as part, part.open("wb") as file:
            yield file
            file.flush()
    except OSError as exc:
        raise FileNotWritten(f"{path} cannot be written: {exc.strerror or exc}") from exc
