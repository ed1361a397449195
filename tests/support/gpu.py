"""What tests on a GPU are marked with: `pytest -m gpu` runs them all, the slow ones, too."""

from collections.abc import Callable
from typing import Any

import pytest

from models.devices import cuda_problem


def needs_gpu(test: Callable[..., Any]) -> Callable[..., Any]:
    """Skips with the reason why there is none."""
    problem = cuda_problem()
    skipped: Callable[..., Any] = pytest.mark.skipif(problem is not None, reason=f"no GPU: {problem}")(test)
    return pytest.mark.gpu(skipped)
