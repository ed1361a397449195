import subprocess
import sys

import pytest

from models.dataset.limits import Limits
from models.preprocess import MAX_PIXELS


def imported_with(*modules):
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )


def test_an_ingest_needs_no_torch_no_http_and_no_database():
    loaded = imported_with("models.dataset.ingest", "models.dataset.pack")
    assert "PIL" in loaded
    assert not loaded & {"torch", "torchvision", "httpx", "fastapi", "celery", "sqlalchemy", "redis"}


@pytest.mark.parametrize("module", ["pack", "archive", "layout", "report", "limits", "errors"])
def test_what_the_command_line_uses_needs_no_pillow(module):
    assert not imported_with(f"models.dataset.{module}") & {"PIL", "numpy"}


def test_what_is_taken_into_a_dataset_can_be_classified():
    assert Limits().pixels == MAX_PIXELS
