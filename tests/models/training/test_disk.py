"""A disk that cannot take a file is told as such, whichever library was writing."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from models.training.disk import writing

LIMITED = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from models.training.disk import writing

file = Path(sys.argv[1])
tensors = {"w": torch.zeros(1_000_000)}
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (lambda: save_file(tensors, file), lambda: torch.save(tensors, file)):
    try:
        with writing(file):
            write()
    except OSError as error:
        print(error.errno)
"""


def test_what_the_system_refuses_to_write_is_an_error_of_the_system(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "weights")], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [str(errno.EIO)] * 2


def test_a_full_disk_is_known_by_the_words_of_the_library(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="weights could not be written") as caught, writing(tmp_path / "weights"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) not in str(caught.value)
