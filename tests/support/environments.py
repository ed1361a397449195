"""Environments of other packages than the project's own, such as a client that pins an old release."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from uv import find_uv_bin


def make_environment(folder: Path, *packages: str) -> Path:
    """The Python of a new environment in `folder` with those packages: what `uv pip install` is given."""
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    _uv("pip", "install", "--quiet", "--python", str(python), *packages)
    return python


def _uv(*arguments: str) -> None:
    done: subprocess.CompletedProcess[str] = _run([find_uv_bin(), *arguments])
    assert done.returncode == 0, f"uv {arguments[0]}: {done.stderr}"


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
