"""The process that reads a stranger's graph: what ends it ends nobody else, and it comes to an end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.model_files import LABELS, VIEW, WRONG, enormous, laborious, onnx_file, write

from models import errors
from models.errors import ModelFileRefused
from models.training.interruption import Interrupted
from models.uploaded.facts import Said
from models.uploaded.jail import KEPT_VARIABLES, ONE_THREAD, JailLimits, PreparedGraph, prepare

SAID = Said(labels=LABELS, preprocessing=VIEW)


def made(tmp_path: Path, content: bytes, **options: Any) -> PreparedGraph:
    return prepare(write(tmp_path, content), tmp_path / "out.onnx", SAID, **options)


def test_what_it_makes_and_finds_comes_back(tmp_path: Path) -> None:
    found = made(tmp_path, onnx_file())
    assert found.labels == LABELS
    assert (found.preprocessing.height, found.preprocessing.resize) == (32, 32)
    assert found.outputs["embedding"] == [8]
    assert found.parity["passed"]
    assert found.facts["operators"] == {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert (tmp_path / "out.onnx").stat().st_size > 1000


@pytest.mark.parametrize("name", ["two inputs", "a loop without end", "cut short"])
def test_its_refusals_come_back(tmp_path: Path, name: str) -> None:
    make, said = WRONG[name]
    with pytest.raises(ModelFileRefused, match=f"(?s){said}") as caught:
        made(tmp_path, make())
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("shape", [(2**16, 2**16), (2**31, 2**31), (2**20, 2**14)])
def test_an_enormous_array_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFileRefused, match=r"more memory|fails on|refuses"):
        made(tmp_path, enormous(*shape))


def test_a_graph_that_works_without_end_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ModelFileRefused, match="no end within 4 s of a processor; expected a graph that"):
        made(tmp_path, laborious(2048, 400), limits=JailLimits(cpu_s=4))
    assert time.monotonic() - began < 60


def test_whoever_waits_may_end_it(tmp_path: Path) -> None:
    """A cancelled job does not wait for it."""
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks > 2:
            raise Interrupted("cancelled")

    began = time.monotonic()
    with pytest.raises(Interrupted):
        made(tmp_path, laborious(2048, 400), check=check)
    assert time.monotonic() - began < 20


def test_one_that_says_nothing_for_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ModelFileRefused, match=r"no end|memory"):
        made(tmp_path, laborious(2048, 400), limits=JailLimits(wall_s=2.0))


def test_it_is_told_no_secrets(tmp_path: Path) -> None:
    """Passwords of database and store stand in the environment of who starts it."""
    program = "import os, pathlib, support.jailed_environment as j; j.run()"
    environment = {**os.environ, "FOVEA_DATABASE": "postgresql://u:secret@h/d", "AWS_SECRET_ACCESS_KEY": "secret"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": "tests:."},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert "secret" not in json.dumps(seen)
    assert set(seen) <= {*KEPT_VARIABLES, *ONE_THREAD, "LC_CTYPE"}


def test_every_error_that_it_tells_has_a_class(tmp_path: Path) -> None:
    for name in ("ModelFileRefused", "UploadFactsMissing", "ExportMismatch", "ExportFailed", "ArtifactCorrupt"):
        assert issubclass(getattr(errors, name), errors.ModelError)


def test_it_imports_no_torch() -> None:
    """Torch takes seconds and half a gigabyte, and knows nothing of ONNX files."""
    program = (
        "import sys, models.uploaded.prepare, models.uploaded.comparison, models.uploaded.wrap;"
        "import models.photographs;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
