"""What each process imports at its start: seconds until Fovea is ready, and memory for as long as it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from workers.lean import ENTRY_POINTS

TRAINING = ("torch", "torchvision", "timm", "sklearn", "matplotlib", "onnx")
# What is optional to libraries that every process has, and used by none (`workers/lean.py`).
UNUSED = ("rich", "pygments", "opentelemetry.sdk", "psutil", "yaml")
MIGRATION = ("alembic", "mako")
INFERENCE = ("onnxruntime", "numpy", "PIL")
ABSENT = {
    "service.main": (*TRAINING, *UNUSED, *MIGRATION, *INFERENCE, "grpc", "google.protobuf"),
    "workers.inference.main": (*TRAINING, *UNUSED, *MIGRATION, "sqlalchemy"),
    "workers.inference.bulk": (*TRAINING, *UNUSED, *MIGRATION),
    "workers.training.main": (*TRAINING, *UNUSED, *MIGRATION, *INFERENCE),
    "workers.training.runner": (*TRAINING, *UNUSED, *MIGRATION, "onnxruntime"),
    "cli.up.run": (*TRAINING, *MIGRATION, *INFERENCE, "sqlalchemy", "celery", "redis", "fastapi", "structlog"),
}


@pytest.mark.parametrize("module", ABSENT)
def test_an_entry_point_imports_nothing_that_its_start_can_do_without(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {ABSENT[module]} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_hidden_from_a_library_is_there_for_everybody_else() -> None:
    code = "import workers.lean, rich, opentelemetry.sdk, structlog, sys; print(structlog.dev.rich, rich.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None rich"


def test_those_that_collect_no_garbage_while_they_import_are_those_that_import_less() -> None:
    root = Path(__file__).parents[1]
    found = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for room in ("service", "workers")
        for path in (root / room).rglob("*.py")
        if "\nimport workers.lean  # noqa" in path.read_text()
    }
    assert found == set(ENTRY_POINTS)
