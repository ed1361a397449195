"""A disk that is full, in the one error that tells so: libraries that write files themselves raise others."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

# With less than that a file of weights did not fit.
FULL_BYTES = 2**20


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Around safetensors' and torch's writing of `file`. Raises OSError, with ENOSPC where the disk is full."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        is_full = "No space left" in str(error) or shutil.disk_usage(file.parent).free < FULL_BYTES
        raise OSError(errno.ENOSPC if is_full else errno.EIO, f"{file.name} could not be written") from error
