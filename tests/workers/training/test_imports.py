"""What runs in the gateway or waits for a training must not cost torch."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "models.training.recipe",
        "models.training.interruption",
        "workers.contract.jobs.kinds",
        "workers.jobs.attempt",
        "workers.training.main",
        "workers.training.runner",
    ],
)
def test_it_is_imported_without_torch(module: str) -> None:
    heavy = {"torch", "torchvision", "sklearn", "matplotlib"}
    code = f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
